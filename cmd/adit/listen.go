package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/systemd"
	"adit/tunnel"
)

// handedOver are the sockets that systemd opened for this process.
type handedOver map[string][]net.Listener

// takeSockets takes them over.
func takeSockets() (handedOver, error) {
	l, err := systemd.Listeners()
	return handedOver(l), err
}

// take returns the sockets of a name, which nobody gets twice.
func (h handedOver) take(name string) ([]net.Listener, error) {
	l, ok := h[name]
	if !ok {
		advice := "start adit by its socket unit; FileDescriptorName= there names the socket, by default after the unit: systemd:adit-server.socket"
		if len(h) > 0 {
			advice = "systemd handed over " + strings.Join(slices.Sorted(maps.Keys(h)), ", ")
		}
		return nil, hint.Errorf(advice, "systemd:%s: systemd handed over no socket of this name", name)
	}
	delete(h, name)
	return l, nil
}

// closeRest closes what the configuration does not use and returns its names.
func (h handedOver) closeRest() []string {
	names := slices.Sorted(maps.Keys(h))
	for _, ls := range h {
		closeAll(ls)
	}
	clear(h)
	return names
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// listenAll opens every address, or none.
func listenAll(addrs []config.Address, sockets handedOver) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
		}
	}()
	for _, a := range addrs {
		switch a.Network {
		case "systemd":
			ls, err := sockets.take(a.Address)
			if err != nil {
				return all, err
			}
			all = append(all, ls...)
		case "unix":
			// The group is how a reverse proxy on this machine gets in.
			l, err := tunnel.ListenUnix(a.Address, 0o660)
			if err != nil {
				return all, fmt.Errorf("listen on %s: %w", a, err)
			}
			all = append(all, l)
		default:
			l, err := tunnel.Listen(a.Network, a.Address)
			if err != nil {
				return all, listenFault(a, err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

func listenFault(a config.Address, err error) error {
	var advice string
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "another program has this port: ss -ltnp shows which; or listen elsewhere, e.g. --listen :8443"
	case errors.Is(err, syscall.EACCES):
		advice = "ports below 1024 need a privilege: use the systemd socket unit, setcap cap_net_bind_service=+ep on the binary, or --listen :8443"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = "no interface of this machine has this address: ip addr shows them"
	}
	return hint.Errorf(advice, "listen on %s: %w", a, err)
}

// indexed names an item of a list in the configuration.
func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
