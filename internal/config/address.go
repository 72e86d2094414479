package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Address is where to listen or what to connect to.
//
// Network is "tcp", "unix", "systemd" (a listening socket handed over by
// systemd under that name) or "name" (a target that the server's
// configuration names; only in forwards). For "tcp", Address is HOST:PORT with
// IPv6 in brackets and an empty HOST meaning every interface. The zero Address
// means none.
type Address struct {
	Network string
	Address string
}

// IsZero reports whether no address was given.
func (a Address) IsZero() bool { return a == Address{} }

// String returns the form that ParseListen and ParseTarget read.
func (a Address) String() string {
	switch a.Network {
	case "unix", "systemd":
		return a.Network + ":" + a.Address
	case "tcp":
		if strings.HasPrefix(a.Address, ":") {
			return "*" + a.Address
		}
	}
	return a.Address
}

const addressHint = `write HOST:PORT, "[::1]:8443", ":443" for every interface, unix:/run/adit.sock, or systemd:NAME`

// ParseListen reads an address to listen on: HOST:PORT, :PORT or *:PORT for
// every interface, unix:PATH (or just an absolute path), or systemd:NAME. Port
// 0 asks the system for a free one.
func ParseListen(s string) (Address, error) {
	if name, ok := strings.CutPrefix(s, "systemd:"); ok {
		return parseSystemd(name)
	}
	if a, ok, err := parseUnix(s); ok {
		return a, err
	}
	if strings.Contains(s, "://") {
		return Address{}, bad(addressHint, "%q is a URL, not an address", Redact(s))
	}
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return Address{}, bad(`a bare port would be ambiguous: write ":`+s+`" for every interface or "127.0.0.1:`+s+`" for this machine only`, "%q has no colon", s)
	}
	host, port, err := splitHostPort(s, addressHint)
	if err != nil {
		return Address{}, err
	}
	return listenTCP(host, port)
}

// ParseTarget reads an address to connect to: HOST:PORT or unix:PATH.
func ParseTarget(s string) (Address, error) {
	const hint = "write HOST:PORT, e.g. 127.0.0.1:22 or db.lan:5432, or unix:/run/app.sock"
	if strings.HasPrefix(s, "systemd:") {
		return Address{}, bad(hint, "%q: systemd: is for listeners only", s)
	}
	if a, ok, err := parseUnix(s); ok {
		if err == nil && !strings.HasPrefix(a.Address, "/") {
			err = bad("write unix:/run/app.sock", "%q is not an absolute path", a.Address)
		}
		if err != nil {
			return Address{}, err
		}
		return a, nil
	}
	if strings.Contains(s, "://") {
		return Address{}, bad(hint, "%q is a URL, not an address", Redact(s))
	}
	host, port, err := splitHostPort(s, hint)
	if err != nil {
		return Address{}, err
	}
	return targetTCP(host, port)
}

// ParseHostPort reads a TCP address to connect to, HOST:PORT.
func ParseHostPort(s string) (string, error) {
	const hint = "write HOST:PORT, e.g. gw.example.com:443 or [2001:db8::1]:443"
	if strings.Contains(s, "://") {
		return "", bad(hint, "%q is a URL, not an address", Redact(s))
	}
	host, port, err := splitHostPort(s, hint)
	if err != nil {
		return "", err
	}
	a, err := targetTCP(host, port)
	return a.Address, err
}

// connectTo reads the address of --connect-to, HOST:PORT or unix:PATH.
func connectTo(s string) (string, error) {
	a, isSocket, err := parseUnix(s)
	if !isSocket {
		return ParseHostPort(s)
	}
	if err == nil && !strings.HasPrefix(a.Address, "/") {
		err = bad("write unix:/run/front.sock", "%q is not an absolute path", a.Address)
	}
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

// listenTCP checks a bind host and a port that may be 0. An empty host or "*"
// is every interface.
func listenTCP(host, port string) (Address, error) {
	n, err := parsePort(port)
	if err != nil {
		return Address{}, err
	}
	if host == "*" {
		host = ""
	}
	if host != "" {
		if host, err = parseHost(host, true); err != nil {
			return Address{}, err
		}
	}
	return Address{"tcp", net.JoinHostPort(host, n)}, nil
}

// targetTCP checks a host to connect to and a port, which may not be 0.
func targetTCP(host, port string) (Address, error) {
	n, err := parsePort(port)
	if err != nil {
		return Address{}, err
	}
	if n == "0" {
		return Address{}, bad("write a port between 1 and 65535, e.g. 127.0.0.1:22", "port 0 cannot be connected to")
	}
	if host == "*" || host == "" {
		return Address{}, bad("name the host to connect to, e.g. 127.0.0.1:22", "host %q cannot be connected to", host)
	}
	if host, err = parseHost(host, false); err != nil {
		return Address{}, err
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsUnspecified() {
		return Address{}, bad("for the machine itself write 127.0.0.1 or [::1]", "host %q means every interface and cannot be connected to", host)
	}
	return Address{"tcp", net.JoinHostPort(host, n)}, nil
}

// hostPort splits a tcp address; both are empty for the others.
func (a Address) hostPort() (host, port string) {
	if a.Network == "tcp" {
		host, port, _ = net.SplitHostPort(a.Address)
	}
	return host, port
}

// ParseBackend reads where a route leads: HOST:PORT, unix:PATH with an absolute
// path, or the name of a target. It returns the form that server.Route takes.
func ParseBackend(s string) (string, error) {
	if IsTargetName(s) {
		return s, nil
	}
	a, err := ParseTarget(s)
	if err != nil {
		return "", bad("write HOST:PORT, e.g. 127.0.0.1:9000, unix:/run/app.sock, or the name of a [[target]]", "backend %s", quotedOnce(s, err))
	}
	return a.String(), nil
}

// quotedOnce is an error's text, with the whole value before it unless it is
// there already.
func quotedOnce(s string, err error) string {
	if q := strconv.Quote(s); !strings.Contains(err.Error(), q) {
		return q + ": " + err.Error()
	}
	return err.Error()
}

// ParsePrefix reads a network, 10.0.0.0/8, or one address.
func ParsePrefix(s string) (netip.Prefix, error) {
	const hint = "write a network or an address, e.g. 10.0.0.0/8, 192.0.2.7 or fd00::/8"
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, bad(hint, "%q is not a network", s)
	case p.Addr().Is4In6():
		return netip.Prefix{}, bad(hint, "%q: write IPv4 networks as IPv4", s)
	case p.Bits() == 0:
		return netip.Prefix{}, bad(hint, "%q would trust every address", s)
	case p.Masked() != p:
		return netip.Prefix{}, bad("did you mean "+p.Masked().String()+"?", "%q has bits set beyond the /%d", s, p.Bits())
	}
	return p, nil
}
