package config

import (
	"cmp"
	"strings"

	"adit/internal/hint"
)

// Forward is one -L: where the client listens, and where the server connects.
type Forward struct {
	Listen Address // tcp, unix or systemd
	Target Address // tcp, unix, or "name" for a target that the server names
}

// String returns the ssh form. ParseForward reads it back to the same Forward.
func (f Forward) String() string {
	return forwardPart(f.Listen) + ":" + forwardPart(f.Target)
}

// forwardPart is Address.String except that a path needs no "unix:".
func forwardPart(a Address) string {
	if a.Network == "unix" {
		return a.Address
	}
	return a.String()
}

const forwardHint = "write PORT:HOST:HOSTPORT, e.g. -L 5432:db.lan:5432; PORT:NAME for a target the server names, e.g. -L 2222:ssh; or /run/local.sock:HOST:PORT"

// ParseForward reads a forward in one of these forms, where the default BIND
// is localhost, both loopback addresses, "*" or nothing before the colon is every interface, and IPv6
// addresses stand in brackets:
//
//	[BIND:]PORT:HOST:HOSTPORT   ssh
//	[BIND:]PORT:NAME            a target that the server's configuration names
//	[BIND:]PORT:/path           a unix socket on the server
//	/path:…                     a unix socket here; also systemd:NAME:…
//	tcp://…  unix://…           the same behind a scheme
//	HOST:PORT                   chisel: listen on localhost:PORT
//	PORT                        chisel: to 127.0.0.1:PORT on the server
//	PORT:PORT                   chisel: to 127.0.0.1 on the server
//
// A chisel "/tcp" at the end is accepted. Every error has a hint.
func ParseForward(s string) (Forward, error) {
	f, err := parseForward(s)
	if err != nil {
		return Forward{}, bad(cmp.Or(hint.Of(err), forwardHint), "forward %q: %s", Redact(s), err)
	}
	return f, nil
}

func parseForward(s string) (Forward, error) {
	if s == "" {
		return Forward{}, bad(forwardHint, "it is empty")
	}
	if err := unsupportedForward(s); err != nil {
		return Forward{}, err
	}
	rest := s
	scheme, after, isURL := strings.Cut(s, "://")
	if isURL {
		rest = after
		if strings.ContainsAny(rest, "?#") {
			return Forward{}, bad("leave out everything from the '?' on, e.g. tcp://5432:db.lan:5432", "options after '?' are not supported")
		}
	} else {
		rest = strings.TrimSuffix(rest, "/tcp")
	}
	fields, err := splitFields(rest)
	if err != nil {
		return Forward{}, err
	}
	fields = joinUnixPrefix(fields)
	listen, target, err := cutListen(fields)
	if err != nil {
		return Forward{}, err
	}
	switch {
	case scheme == "tcp" && isURL && listen.Network != "tcp":
		return Forward{}, bad("write tcp://5432:db.lan:5432, or unix:///run/local.sock:db.lan:5432 for a socket", "tcp:// needs a port to listen on")
	case scheme == "unix" && isURL && listen.Network != "unix":
		return Forward{}, bad("write unix:///run/local.sock:db.lan:5432", "unix:// needs the path of a socket to listen on")
	}
	return Forward{listen, target}, nil
}

// unsupportedForward names forms that other programs or later versions have.
func unsupportedForward(s string) error {
	const later = " this version forwards TCP and unix sockets from the client's side, e.g. -L 5432:db.lan:5432"
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		switch scheme {
		case "tcp", "unix":
			return nil
		case "udp":
			return bad("use a TCP service if there is one (DNS: -L 5353:resolver:53);"+later, "udp:// is not in this release")
		case "socks5", "socks", "http":
			return bad("name each target in a forward of its own:"+later, "%s:// (a local proxy, -D) is not in this release", scheme)
		case "stdio":
			return bad("use -W HOST:PORT, e.g. adit client -W db.lan:22 wss://gw.example.com/tunnel", "stdio:// is written -W")
		default:
			return bad("write tcp://5432:db.lan:5432 or unix:///run/local.sock:db.lan:5432", "scheme %q is not known", scheme)
		}
	}
	first, _, _ := strings.Cut(s, ":")
	switch {
	case strings.HasSuffix(s, "/udp"):
		return bad("use a TCP service if there is one;"+later, "/udp is not in this release")
	case first == "R":
		return bad("run the client on the other side and use -L there;"+later, "a reverse forward (R:, -R) is not in this release")
	case first == "socks" || strings.HasSuffix(s, ":socks"):
		return bad("name each target in a forward of its own:"+later, "a SOCKS proxy (socks, -D) is not in this release")
	case first == "stdio":
		return bad("use -W HOST:PORT, e.g. adit client -W db.lan:22 wss://gw.example.com/tunnel", "stdio: is written -W")
	}
	return nil
}

// splitFields cuts at colons, except inside of brackets that begin a field.
func splitFields(s string) ([]string, error) {
	var fields []string
	for {
		end := strings.IndexByte(s, ':')
		if strings.HasPrefix(s, "[") {
			closing := strings.IndexByte(s, ']')
			if closing < 0 {
				return nil, bad("write IPv6 addresses as [::1]", "%q lacks its closing bracket", s)
			}
			if end = closing + 1; end == len(s) {
				end = -1
			} else if s[end] != ':' {
				return nil, bad("write IPv6 addresses as [::1]:8080", "%q: a colon must follow the bracket", s)
			}
		}
		if end < 0 {
			return append(fields, s), nil
		}
		fields = append(fields, s[:end])
		s = s[end+1:]
	}
}

// joinUnixPrefix turns the pair "unix", "/path" into "/path".
func joinUnixPrefix(fields []string) []string {
	var out []string
	for i, f := range fields {
		if f == "unix" && i+1 < len(fields) && isPath(fields[i+1]) {
			continue
		}
		out = append(out, f)
	}
	return out
}

// cutListen reads the listening side, and the rest with forwardTarget.
func cutListen(f []string) (listen, target Address, err error) {
	switch {
	case isPath(f[0]):
		if err = checkSocketPath(f[0]); err != nil {
			return
		}
		listen = Address{"unix", oneSlash(f[0])}
		f = f[1:]
	case f[0] == "systemd" && len(f) > 1:
		if listen, err = parseSystemd(f[1]); err != nil {
			return
		}
		f = f[2:]
	case isPort(f[0]):
		if listen, err = listenTCP("localhost", f[0]); err != nil {
			return
		}
		if len(f) == 1 { // chisel: PORT
			target, err = targetTCP("127.0.0.1", f[0])
			return
		}
		f = f[1:]
	case len(f) == 1:
		err = bad("put the port to listen on before it, e.g. -L 2222:"+f[0]+" for a target named so by the server", "%q has no port", f[0])
		return
	case len(f) == 2 && isPort(f[1]): // chisel: HOST:PORT
		if target, err = targetTCP(f[0], f[1]); err != nil {
			return
		}
		listen, err = listenTCP("localhost", f[1])
		return
	default:
		if listen, err = listenTCP(f[0], f[1]); err != nil {
			return
		}
		f = f[2:]
	}
	target, err = forwardTarget(f)
	return
}

// forwardTarget reads what follows the listening side.
func forwardTarget(f []string) (Address, error) {
	switch len(f) {
	case 0:
		return Address{}, bad(forwardHint, "the target is missing")
	case 1:
		return oneFieldTarget(f[0])
	case 2:
		return targetTCP(f[0], f[1])
	}
	rest := strings.Join(f, ":")
	if looksLikeIPv6(rest) {
		return Address{}, bad("write -L 8080:[2001:db8::5]:80", "%q: an IPv6 address needs brackets", rest)
	}
	return Address{}, bad("IPv6 addresses need brackets, e.g. -L [::1]:8080:[2001:db8::5]:80, and paths must not contain colons", "%q has too many parts", rest)
}

func oneFieldTarget(s string) (Address, error) {
	switch {
	case strings.HasPrefix(s, "/"):
		return Address{"unix", oneSlash(s)}, checkSocketPath(s)
	case isPath(s):
		return Address{}, bad("write the path as the server sees it, e.g. -L 5432:/run/postgresql/.s.PGSQL.5432", "%q is not an absolute path", s)
	case isPort(s): // chisel: PORT:PORT
		return targetTCP("127.0.0.1", s)
	case s == "":
		return Address{}, bad(forwardHint, "the target is empty")
	}
	if IsTargetName(s) {
		return Address{"name", s}, nil
	}
	return Address{}, bad("write HOST:PORT, e.g. -L 5432:db.lan:5432, or the name of a target in the server's configuration, e.g. -L 2222:ssh", "target %q has no port and is no target name", s)
}

// IsTargetName reports whether s can name a [[target]]: a letter, then
// letters, digits, '-' and '_', at most 64 bytes in all. A dot is not allowed,
// so that a forgotten port (5432:db.lan) is noticed.
func IsTargetName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '_') {
			return false
		}
	}
	return true
}

// ParseStdio reads the target of -W: HOST:PORT or [HOST]:PORT, an absolute path or unix:PATH,
// or the name of a target.
func ParseStdio(s string) (Address, error) {
	if isPort(s) { // as the target of a forward
		return targetTCP("127.0.0.1", s)
	}
	if IsTargetName(s) {
		return Address{"name", s}, nil
	}
	// ssh's own form puts brackets around every host: -W '[%h]:%p'.
	if host, port, ok := strings.Cut(strings.TrimPrefix(s, "["), "]:"); ok && s[0] == '[' && !strings.Contains(host, ":") {
		s = host + ":" + port
	}
	a, err := ParseTarget(s)
	if err != nil {
		return Address{}, bad("write -W db.lan:22, -W unix:/run/app.sock, or the name of a target in the server's configuration, e.g. -W ssh", "%s", err)
	}
	return a, nil
}
