package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"adit/admin"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/tunnel"
)

// adminSocket is the socket in systemd's RUNTIME_DIRECTORY.
const adminSocket = "admin.sock"

// startAdmin lets the process be watched, where that is asked for or the service
// manager has made a place for it. stop ends it.
func startAdmin(c config.Admin, what admin.Config, log *slog.Logger) (stop func(), err error) {
	address, asked := c.Listen, !c.Listen.IsZero()
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" && !asked {
		address = config.Address{Network: "unix", Address: filepath.Join(dir, adminSocket)}
	}
	if address.IsZero() || address.Network == "none" {
		return func() {}, nil
	}
	ln, err := listenAdmin(address)
	if err != nil {
		if !asked { // what nobody asked for is no reason not to start
			log.Warn("no admin address", "addr", address.String(), "error", err)
			return func() {}, nil
		}
		return nil, err
	}
	what.Version, what.Pprof, what.Logger = versionText(), c.Pprof, log
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
			log.Error("the admin address is gone", "error", err)
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
	ln, err := net.Listen(a.Network, a.Address)
	if err != nil {
		return nil, listenFault(a, err)
	}
	// The configuration allows localhost, which is what the resolver says.
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		ln.Close()
		return nil, hint.Errorf("write 127.0.0.1 or [::1]", "listen on %s: %s is not loopback", a, ln.Addr())
	}
	return ln, nil
}

// certificates are those of the plan in force.
func (g *gateway) certificates() []admin.Certificate {
	source := g.source.Load()
	if source == nil || *source == nil {
		return nil
	}
	var all []admin.Certificate
	for _, leaf := range (*source).Leaves() {
		name := leaf.Subject.CommonName
		switch {
		case len(leaf.DNSNames) > 0:
			name = leaf.DNSNames[0]
		case len(leaf.IPAddresses) > 0:
			name = leaf.IPAddresses[0].String()
		}
		all = append(all, admin.Certificate{Name: name, Expires: leaf.NotAfter.UTC()})
	}
	return all
}
