package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// clientAddr is the address that a request comes from, for the log, limits and
// the PROXY protocol; nothing is allowed or refused because of whose address
// it is. It is invalid where there is none, as over a unix socket; its port is
// 0 where that is not known.
//
// X-Forwarded-For and Forwarded (RFC 7239) are believed only if the peer is
// one of Access.TrustedProxies; if there are any, a peer on a unix socket is
// one, too. Then the client is the last of the addresses in the header that is
// not itself a trusted proxy: what is left of it anybody may have invented. An
// entry that is no address ends the search at the proxy that vouches for it.
// If both headers are there and name different clients, the proxy has set but
// one of them, and which one cannot be known: the client is then the peer.
func (s *Server) clientAddr(r *http.Request) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	peer = plain(peer)
	trusted := s.access.Load().trustedProxies
	if !trustedPeer(trusted, peer.Addr()) {
		return peer
	}
	x := lastClient(trusted, peer, xForwardedFor(r.Header))
	f := lastClient(trusted, peer, forwardedFor(r.Header))
	switch {
	case x == peer || f.Addr() == x.Addr():
		return f
	case f == peer:
		return x
	}
	return peer
}

// trustedPeer reports whether a peer is one of the trusted proxies. If there are
// any, one without an address, as on a unix socket, is.
func trustedPeer(trusted []netip.Prefix, peer netip.Addr) bool {
	if !peer.IsValid() {
		return len(trusted) > 0
	}
	peer = peer.Unmap().WithZone("")
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// lastClient walks from the peer back through the addresses that each proxy
// saw.
func lastClient(trusted []netip.Prefix, peer netip.AddrPort, chain []string) netip.AddrPort {
	client := peer
	for i := len(chain) - 1; i >= 0; i-- {
		next, ok := parseNode(chain[i])
		if !ok {
			break
		}
		client = next
		if !trustedPeer(trusted, client.Addr()) {
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

// parseNode reads an address, with or without a port, IPv6 with or without
// brackets.
func parseNode(s string) (netip.AddrPort, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plain(ap), true
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		// A port that is not told, as "_hidden" (RFC 7239 section 6.3).
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

// plain is an address without the ways of writing it that change nothing.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// addrText is an address for the log.
func addrText(ap netip.AddrPort) string {
	switch {
	case !ap.IsValid():
		return "(local)"
	case ap.Port() == 0:
		return ap.Addr().String()
	}
	return ap.String()
}
