package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"adit/admin"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/tunnel"
)

// adminSocket is the name of the socket in systemd's RUNTIME_DIRECTORY.
const adminSocket = "admin.sock"

// StartAdmin serves the admin endpoint until stop is called. Without a configured
// address it listens in runtimeDirectory, which is systemd's RUNTIME_DIRECTORY;
// without that either, it does nothing.
func StartAdmin(c config.Admin, runtimeDirectory string, what admin.Config, log *slog.Logger) (stop func(), err error) {
	address, configured := c.Listen, !c.Listen.IsZero()
	if dir, _, _ := strings.Cut(runtimeDirectory, ":"); dir != "" && !configured {
		address = config.Address{Network: "unix", Address: filepath.Join(dir, adminSocket)}
	}
	if address.IsZero() || address.Network == "none" {
		return func() {}, nil
	}
	ln, err := listenAdmin(address)
	if err != nil {
		if !configured { // not a reason to refuse to start
			log.Warn("admin address unavailable", "addr", address.String(), "error", err)
			return func() {}, nil
		}
		return nil, err
	}
	what.Pprof, what.Logger = c.Pprof, log
	a, err := admin.New(what)
	if err != nil {
		ln.Close()
		return nil, err
	}
	log.Info("admin address", "addr", config.Address{Network: address.Network, Address: ln.Addr().String()}.String(), "pprof", c.Pprof)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Serve(ln); err != nil {
			log.Error("admin address failed", "error", err)
		}
	}()
	return func() { a.Close(); <-done }, nil
}

func listenAdmin(a config.Address) (net.Listener, error) {
	if a.Network == "unix" {
		ln, err := tunnel.ListenUnix(a.Address, 0o600)
		if err != nil {
			return nil, hint.File(fmt.Errorf("listen on %s for adit status: %w", a, err), "another adit has this socket, or adit may not write to its directory: give each its own, --admin-listen unix:/run/user/1000/adit.sock, or --admin-listen none")
		}
		return ln, nil
	}
	ln, err := tunnel.Listen(a.Network, a.Address)
	if err != nil {
		return nil, listenError(a, err)
	}
	return ln, nil
}
