package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
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

// Listen opens every address, or none.
func (s Sockets) Listen(addrs []config.Address) (all []net.Listener, err error) {
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
			// A reverse proxy on this machine gets in by the group.
			l, err := tunnel.ListenUnix(a.Address, 0o660)
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
