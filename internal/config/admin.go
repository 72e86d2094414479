package config

import (
	"net/netip"

	"adit/internal/hint"
)

// ParseAdmin reads an address of the admin server: unix:PATH, or HOST:PORT on
// loopback, where everyone on this machine can read it; "none" is none.
func ParseAdmin(s string) (Address, error) {
	const advice = "write unix:/run/adit/admin.sock, which only its owner and root can use, or 127.0.0.1:9090, or none"
	if s == "none" {
		return Address{Network: "none"}, nil
	}
	a, err := ParseListen(s)
	if err != nil {
		return Address{}, hint.With(err, advice)
	}
	switch a.Network {
	case "unix":
		return a, nil
	case "systemd":
		return Address{}, bad(advice, "%q: the admin address cannot be handed over", s)
	}
	host, _ := a.hostPort()
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
		return a, nil
	}
	return Address{}, bad(advice+"; for another machine put a proxy that asks for a password in front", "%q is not an address of this machine alone, and the admin address asks nobody for a password", s)
}
