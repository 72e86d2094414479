package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/systemd"
	"adit/tunnel"
)

// Sockets are the listening sockets that systemd opened for this process, by name.
type Sockets map[string][]net.Listener

// TakeSockets takes them over. Outside systemd there are none.
func TakeSockets() (Sockets, error) { return systemd.Listeners() }

// Take returns the sockets of a name and removes them: each has one owner.
func (s Sockets) Take(name string) ([]net.Listener, error) {
	l, ok := s[name]
	if !ok {
		advice := "start adit by its socket unit; FileDescriptorName= there names the socket, by default after the unit: systemd:adit-server.socket"
		if len(s) > 0 {
			advice = "systemd handed over " + strings.Join(slices.Sorted(maps.Keys(s)), ", ")
		}
		return nil, hint.Errorf(advice, "systemd:%s: systemd handed over no socket of this name", name)
	}
	delete(s, name)
	return l, nil
}

// CloseUnused closes the sockets that nothing has taken, and logs their names.
func (s Sockets) CloseUnused(log *slog.Logger) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		CloseAll(s[name])
		log.Warn("unused systemd socket", "name", name, "hint", "write systemd:"+name+" where an address to listen on is configured")
	}
	clear(s)
}

// CloseAll closes listeners.
func CloseAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// SocketFile says who may connect to a unix socket.
type SocketFile struct {
	Mode  fs.FileMode // 0: 0660, for a reverse proxy in the same group
	Group string      // name or number; "": the process's group
}

// listen opens a unix socket that nobody but its owner can connect to before it has
// its group and mode.
func (f SocketFile) listen(path string) (net.Listener, error) {
	mode := cmp.Or(f.Mode, 0o660)
	if f.Group == "" {
		return tunnel.ListenUnix(path, mode)
	}
	id := f.Group
	if g, err := user.LookupGroup(f.Group); err == nil {
		id = g.Gid
	}
	gid, err := strconv.Atoi(id)
	if err != nil {
		return nil, hint.Errorf("getent group lists the groups", "there is no group %q", f.Group)
	}
	l, err := tunnel.ListenUnix(path, mode&^0o077)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		l.Close()
		return nil, hint.With(err, "make the user that adit runs as a member of the group "+f.Group+" (systemd: SupplementaryGroups="+f.Group+")")
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Listen opens every address, or none.
func (s Sockets) Listen(addrs []config.Address, file SocketFile) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			CloseAll(all)
		}
	}()
	for _, a := range addrs {
		switch a.Network {
		case "systemd":
			ls, err := s.Take(a.Address)
			if err != nil {
				return all, err
			}
			all = append(all, ls...)
		case "unix":
			l, err := file.listen(a.Address)
			if err != nil {
				return all, fmt.Errorf("listen on %s: %w", a, err)
			}
			all = append(all, l)
		default:
			l, err := tunnel.Listen(a.Network, a.Address)
			if err != nil {
				return all, listenError(a, err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// listenError adds the address to an error of listening, and what helps.
func listenError(a config.Address, err error) error {
	return hint.Errorf(ListenHint(err, "--listen :8443"), "listen on %s: %w", a, err)
}

// ListenHint says what helps against an error of listening on a TCP address, or "".
// elsewhere shows how to listen on another port.
func ListenHint(err error, elsewhere string) string {
	var op *net.OpError
	switch {
	case !errors.As(err, &op) || !strings.HasPrefix(op.Net, "tcp"):
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: ss -ltnp shows which; or choose another port, e.g. " + elsewhere
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need a privilege: use the systemd socket unit, setcap cap_net_bind_service=+ep on the binary, or another port, e.g. " + elsewhere
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has this address: ip addr shows them"
	}
	return ""
}
