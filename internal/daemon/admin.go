package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"golang.org/x/net/netutil"

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
	return serveAdmin(a, ln, "admin address failed", log), nil
}

// maxScrapers bounds the connections to the metrics address, which may be open to a
// network; further ones wait.
const maxScrapers = 64

// StartMetrics serves metrics, health and readiness, and nothing else, at the
// configured address until stop is called. Without an address it does nothing.
func StartMetrics(c config.Metrics, what admin.Config, log *slog.Logger) (stop func(), err error) {
	if c.Listen.IsZero() {
		return func() {}, nil
	}
	ls, err := Sockets{}.Listen([]config.Address{c.Listen}, SocketFile{})
	if err != nil {
		return nil, err
	}
	what.MetricsOnly, what.Logger = true, log
	a, err := admin.New(what)
	if err != nil {
		CloseAll(ls)
		return nil, err
	}
	log.Info("metrics address", "addr", config.Address{Network: c.Listen.Network, Address: ls[0].Addr().String()}.String())
	return serveAdmin(a, netutil.LimitListener(ls[0], maxScrapers), "metrics address failed", log), nil
}

// serveAdmin serves on ln until stop is called. failed is the message if that ends
// before.
func serveAdmin(a *admin.Admin, ln net.Listener, failed string, log *slog.Logger) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Serve(ln); err != nil {
			log.Error(failed, "error", err)
		}
	}()
	return func() { a.Close(); <-done }
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
