package server

import (
	"net"
	"strings"
)

// hostName returns the host of a Host header in the form of foldHost, without
// port. It is "" for a malformed header.
func hostName(hostport string) string {
	host, _ := splitHostPort(hostport)
	return foldHost(host)
}

// foldHost returns a host name in lower case and without a dot at its end.
func foldHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// splitHostPort splits HOST or HOST:PORT, with IPv6 in brackets, which it
// removes. Both are "" when hostport is malformed.
func splitHostPort(hostport string) (host, port string) {
	if strings.HasPrefix(hostport, "[") && strings.HasSuffix(hostport, "]") {
		return hostport[1 : len(hostport)-1], ""
	}
	if !strings.Contains(hostport, ":") {
		return hostport, ""
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", ""
	}
	return host, port
}

// isHostName reports whether s can be the host of a URL: a name or an IP
// address, without brackets.
func isHostName(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\?#@[]<>^|%*"{}`+"`", r)
	}) && (!strings.Contains(s, ":") || net.ParseIP(s) != nil)
}
