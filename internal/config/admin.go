package config

import (
	"net/netip"

	"adit/internal/hint"
)

// Admin is how a running server or client can be watched.
type Admin struct {
	// Listen is a unix socket or a loopback address. Its Network is "none" for
	// nowhere; the zero Address leaves the choice to the caller.
	Listen Address
	Pprof  bool // Go's profiles, too
}

func (a *Admin) settings(restart bool) []*setting {
	return []*setting{
		{key: "admin.listen", flag: "admin-listen", arg: "ADDRESS", restart: restart, value: textValue(&a.Listen, ParseAdmin),
			usage: "answer adit status, Prometheus and the status page here: unix:PATH, a loopback HOST:PORT, or none"},
		{key: "admin.pprof", flag: "admin-pprof", restart: restart, value: boolValue(&a.Pprof),
			usage: "show Go's profiles there, too, below /debug/pprof/"},
	}
}

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
