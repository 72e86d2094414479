package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// trustedProxies are the networks of the proxies in front of the server.
type trustedProxies []netip.Prefix

// clientAddr returns the address that a request comes from, for the log, limits
// and the PROXY protocol; no access depends on it. It is invalid where there is
// none, as over a unix socket; its port is 0 if unknown.
//
// X-Forwarded-For and Forwarded (RFC 7239) are used only if the peer is trusted.
// Then the client is the last address in the header that is not itself a
// trusted proxy: anybody may have invented the entries before it. An entry that
// is no address ends the search at the proxy that added it. If both headers are
// present and name different clients, the proxy has set only one of them, and
// nothing tells which: the client is then the peer.
func (t trustedProxies) clientAddr(r *http.Request) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	peer = plain(peer)
	if !t.include(peer.Addr()) {
		return peer
	}
	x := t.lastClient(peer, xForwardedFor(r.Header))
	f := t.lastClient(peer, forwardedFor(r.Header))
	switch {
	case x == peer || f.Addr() == x.Addr():
		return f
	case f == peer:
		return x
	}
	return peer
}

// include reports whether a peer is one of the proxies. If there are any, a peer
// without an address, as on a unix socket, is one.
func (t trustedProxies) include(peer netip.Addr) bool {
	if !peer.IsValid() {
		return len(t) > 0
	}
	peer = peer.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// lastClient walks back from the peer through the addresses that each proxy
// saw, up to the first that is not trusted.
func (t trustedProxies) lastClient(peer netip.AddrPort, chain []string) netip.AddrPort {
	client := peer
	for i := len(chain) - 1; i >= 0; i-- {
		next, ok := parseNode(chain[i])
		if !ok {
			break
		}
		client = next
		if !t.include(client.Addr()) {
			break
		}
	}
	return client
}

// xForwardedFor returns the entries of all X-Forwarded-For headers in order.
func xForwardedFor(h http.Header) []string {
	var chain []string
	for _, v := range h.Values("X-Forwarded-For") {
		chain = append(chain, strings.Split(v, ",")...)
	}
	return chain
}

// forwardedFor returns the for= parameters of all Forwarded headers in order;
// an element without one counts as unknown.
func forwardedFor(h http.Header) []string {
	var chain []string
	for _, v := range h.Values("Forwarded") {
		for _, element := range splitQuoted(v, ',') {
			node := ""
			for _, pair := range splitQuoted(element, ';') {
				name, value, _ := strings.Cut(pair, "=")
				if strings.EqualFold(strings.TrimSpace(name), "for") {
					node = strings.Trim(strings.TrimSpace(value), `"`)
				}
			}
			chain = append(chain, node)
		}
	}
	return chain
}

// splitQuoted splits s at sep outside of quotes.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	begin, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}

// parseNode parses an address, with or without a port, IPv6 with or without
// brackets.
func parseNode(s string) (netip.AddrPort, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plain(ap), true
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		// An obfuscated port, as "_hidden" (RFC 7239 section 6.3).
		if _, err := strconv.ParseUint(port, 10, 16); err == nil || !strings.HasPrefix(port, "_") {
			return netip.AddrPort{}, false
		}
		s = host
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.AddrPort{}, false
	}
	return plain(netip.AddrPortFrom(a, 0)), true
}

// plain returns the canonical form of an address: without IPv4 mapping and zone.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// addrText returns the form of a client's address for the log.
func addrText(ap netip.AddrPort) string {
	switch {
	case !ap.IsValid():
		return "(local)"
	case ap.Port() == 0:
		return ap.Addr().String()
	}
	return ap.String()
}

// addrPrefix returns what counts as one client: an IPv4 address, or the /64 from
// which an IPv6 host can choose its addresses. Without an address it is the zero
// Prefix.
func addrPrefix(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// remoteAddr returns the address of the peer that sent a request; it is invalid
// where there is none, as over a unix socket.
func remoteAddr(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}
