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

// String returns the form that ParseAddress reads.
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
		return Address{}, bad(addressHint, "%q is a URL, not an address", s)
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
		return Address{}, bad(hint, "%q is a URL, not an address", s)
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
		return "", bad(hint, "%q is a URL, not an address", s)
	}
	host, port, err := splitHostPort(s, hint)
	if err != nil {
		return "", err
	}
	a, err := targetTCP(host, port)
	return a.Address, err
}

// splitHostPort cuts HOST:PORT; HOST may be in brackets, and keeps them.
func splitHostPort(s, hint string) (host, port string, err error) {
	parts, err := splitFields(s)
	if err != nil {
		return "", "", err
	}
	switch {
	case s == "":
		return "", "", bad(hint, "the address is empty")
	case len(parts) == 1:
		return "", "", bad(hint, "%q has no port", s)
	case len(parts) > 2 && looksLikeIPv6(s):
		return "", "", bad(hint, "%q: an IPv6 address needs brackets", s)
	case len(parts) > 2:
		return "", "", bad(hint, "%q has too many colons", s)
	}
	return parts[0], parts[1], nil
}

func looksLikeIPv6(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return false
	}
	a, err := netip.ParseAddr(s[:i])
	return err == nil && a.Is6()
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

// parsePort returns the port in canonical decimal.
func parsePort(s string) (string, error) {
	const hint = "write a decimal port between 1 and 65535, e.g. 8443"
	if s == "" {
		return "", bad(hint, "the port is empty")
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", bad(hint, "port %q is not a number", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return "", bad(hint, "port %q is above 65535", s)
	}
	return strconv.FormatUint(n, 10), nil
}

// isPort reports whether s is meant as a port: digits only.
func isPort(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseHost checks a host name or an IP literal (IPv6 in brackets) and returns
// it without brackets. A zone is accepted only where we listen: a zone names
// an interface of this machine and means nothing on another.
func parseHost(s string, zone bool) (string, error) {
	const hint = "write a host name (db.lan), an IPv4 address (10.0.0.5), or an IPv6 address in brackets ([2001:db8::5])"
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return "", bad(hint, "%q lacks its closing bracket", s)
		}
		a, err := netip.ParseAddr(inner)
		if err != nil || !a.Is6() {
			return "", bad(hint, "%q is not an IPv6 address", s)
		}
		if a.Zone() != "" && !zone {
			return "", bad(hint, "%q: a zone has no meaning on another machine", s)
		}
		if strings.ContainsAny(a.Zone(), "[]:") {
			return "", bad(hint, "%q: bad zone", s)
		}
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), nil // IPv4: an IPv6 address without brackets has colons
	}
	if why := hostNameFault(s); why != "" {
		return "", bad(hint, "host %q %s", s, why)
	}
	return s, nil
}

// hostNameFault says why s is no DNS name, or returns "".
func hostNameFault(s string) string {
	if s == "" {
		return "is empty"
	}
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return "is longer than 253 characters"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "has an empty or overlong label"
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "has a label that begins or ends with a hyphen"
		}
		for i := range len(label) {
			c := label[i]
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			case c >= 0x80:
				return `is not ASCII: write the name in its "xn--" form`
			default:
				return "contains " + strconv.QuoteRune(rune(c))
			}
		}
	}
	if isPort(labels[len(labels)-1]) {
		return "ends in a number but is not an IPv4 address"
	}
	return ""
}

// parseUnix reads unix:PATH or a bare path; ok says that s is meant as one.
func parseUnix(s string) (a Address, ok bool, err error) {
	path, prefixed := strings.CutPrefix(s, "unix:")
	if !prefixed && !isPath(s) {
		return Address{}, false, nil
	}
	path = oneSlash(path) // unix:///run/x.sock
	if prefixed && !isPath(path) {
		return Address{}, true, bad("write unix:/run/adit/x.sock", "%q: the path must begin with / or .", s)
	}
	if err := checkSocketPath(path); err != nil {
		return Address{}, true, err
	}
	return Address{"unix", path}, true, nil
}

// isPath reports whether s is meant as a file name: it begins with / or a dot.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// oneSlash drops all but one of the slashes that begin a path, so that it
// cannot be taken for part of a URL.
func oneSlash(p string) string {
	if strings.HasPrefix(p, "//") {
		return "/" + strings.TrimLeft(p, "/")
	}
	return p
}

// maxSocketPath is what sockaddr_un holds on Linux, less the final zero.
const maxSocketPath = 107

func checkSocketPath(p string) error {
	const hint = "write a short path without colons, e.g. /run/adit/app.sock"
	switch {
	case len(p) > maxSocketPath:
		return bad(hint, "socket path %q is longer than %d bytes", p, maxSocketPath)
	case strings.HasSuffix(p, "/"):
		return bad(hint, "socket path %q is a directory", p)
	}
	for i := range len(p) {
		if p[i] < 0x20 || p[i] == 0x7f {
			return bad(hint, "socket path %q contains a control character", p)
		}
	}
	return nil
}

// parseSystemd checks a FileDescriptorName= (systemd.socket(5)).
func parseSystemd(name string) (Address, error) {
	const hint = "write systemd:NAME, where NAME is the FileDescriptorName= of the socket unit, e.g. systemd:adit"
	if name == "" || len(name) > 255 {
		return Address{}, bad(hint, "systemd:%s: the name is empty or too long", name)
	}
	for i := range len(name) {
		if name[i] <= 0x20 || name[i] >= 0x7f || name[i] == ':' {
			return Address{}, bad(hint, "systemd:%s: the name contains %q", name, name[i])
		}
	}
	return Address{"systemd", name}, nil
}

// hostPort splits a tcp address; both are empty for the others.
func (a Address) hostPort() (host, port string) {
	if a.Network == "tcp" {
		host, port, _ = net.SplitHostPort(a.Address)
	}
	return host, port
}
