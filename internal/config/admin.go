package config

import (
	"net/netip"
	"strings"

	"adit/internal/hint"
)

// ParseAdmin reads an address of the admin server: unix:PATH, or HOST:PORT on
// loopback, which every user of this machine can read; "none" is none.
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
		return Address{}, bad(advice, "%q: systemd cannot hand over the admin address", s)
	}
	host, _ := a.hostPort()
	if ip, err := netip.ParseAddr(host); strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback() {
		return a, nil
	}
	return Address{}, bad(advice+"; for another machine put an authenticating proxy in front", "%q is not a loopback address, and the admin address has no authentication", s)
}

// ParseMetrics reads an address of the metrics server: unix:PATH or HOST:PORT of any
// interface.
func ParseMetrics(s string) (Address, error) {
	const advice = `write 192.0.2.10:9464, ":9464" for every interface, or unix:/run/adit/metrics.sock`
	a, err := ParseListen(s)
	if err != nil {
		return Address{}, hint.With(err, advice)
	}
	if a.Network == "systemd" {
		return Address{}, bad(advice, "%q: systemd cannot hand over the metrics address", s)
	}
	return a, nil
}
