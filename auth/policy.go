package auth

import (
	"errors"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Policy says what an identity may reach. It is immutable. A nil Policy and
// one without rules allow nothing.
//
// A server consults it twice per TCP stream: MayAsk before it resolves the
// name, so that a forbidden name causes no DNS query, and Authorize, from
// net.Dialer.ControlContext, for the address that it is about to connect to.
// Only Authorize decides, because the resolver, not the operator, chooses the
// address of a name.
type Policy struct {
	rules []Rule
}

// ParsePolicy parses rules of these forms:
//
//	HOST:PORTS       HOST is an IP address, a CIDR, a name, "*.suffix" (the
//	                 names below the suffix, not the suffix itself) or "*";
//	                 IPv6 and its CIDRs in brackets. PORTS is "*", "N", "N-M"
//	                 or a comma-separated list.
//	PORTS            these ports on loopback addresses
//	unix:/PATH       one socket; "unix:/DIR/*" every socket below a directory
//	NAME             a target that the server's configuration names (letters,
//	                 digits, - and _; starts with a letter)
//
// Addresses and CIDRs match the address that the server connects to; names
// match the name that the peer asked for. Link-local, multicast, broadcast,
// unspecified and cloud metadata addresses match only a rule that is that
// address or a CIDR wholly inside that range. "*.suffix" never matches a
// loopback address. "*" matches all other addresses.
//
// The error joins a *RuleError for each invalid rule.
func ParsePolicy(rules []string) (*Policy, error) {
	p, faults := parsePolicy(rules)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

func parsePolicy(rules []string) (p *Policy, faults []error) {
	p = &Policy{rules: make([]Rule, 0, len(rules))}
	for _, text := range rules {
		r, err := ParseRule(text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		p.rules = append(p.rules, r)
	}
	return p, faults
}

// list returns the rules; a nil Policy has none.
func (p *Policy) list() []Rule {
	if p == nil {
		return nil
	}
	return p.rules
}

// MayAsk checks a host before name resolution. It returns nil if Authorize
// would allow at least one address that host may resolve to, else a
// *PolicyError. host is a name, or an IP address without brackets.
func (p *Policy) MayAsk(host string, port uint16) error {
	if looksLikeAddress(host) {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return badHost(host, port, "it is neither an IP address nor a host name")
		}
		return p.Authorize(host, netip.AddrPortFrom(addr, port))
	}
	name := trimDot(host)
	if !validName(name) {
		return badHost(host, port, "it is neither an IP address nor a host name")
	}
	for _, r := range p.list() {
		if !r.ports.has(port) {
			continue
		}
		switch r.kind {
		case anyHost, prefixHost, loopbackHost:
			return nil
		case nameHost:
			if sameName(name, r.text) {
				return nil
			}
		case suffixHost:
			if underSuffix(name, r.text) {
				return nil
			}
		}
	}
	return noRule(joinHostPort(host, port), netip.Addr{})
}

// Authorize returns nil if the policy allows a connection to host, as the peer
// asked for it, at its resolved address addr, else a *PolicyError. It does not
// allocate on success.
func (p *Policy) Authorize(host string, addr netip.AddrPort) error {
	ip, port := addr.Addr(), addr.Port()
	if !ip.IsValid() || ip.Zone() != "" {
		return badHost(host, port, "the address has a zone or is missing")
	}
	ip = ip.Unmap()
	kind := specialKind(ip)
	loopback := isLoopback(ip)
	name := trimDot(host)
	exempted := false // a rule matches, but does not cover this special address
	for _, r := range p.list() {
		if !r.ports.has(port) {
			continue
		}
		var match, covers bool
		switch r.kind {
		case prefixHost:
			match = r.prefix.Contains(ip)
			covers = kind == "" || match && namesSpecial(r.prefix, ip)
		case loopbackHost:
			match, covers = ip.IsLoopback(), true
		case anyHost:
			match, covers = true, kind == ""
		case nameHost:
			match, covers = sameName(name, r.text), kind == ""
		case suffixHost:
			match, covers = underSuffix(name, r.text), kind == "" && !loopback
		}
		if match && covers {
			return nil
		}
		exempted = exempted || match
	}
	asked := joinHostPort(host, port)
	switch {
	case exempted && kind != "":
		return &PolicyError{Asked: asked, Addr: ip,
			Reason: kind + " addresses need a rule that names them",
			hint:   "if this is intended, allow exactly that address: " + strconv.Quote(literal(ip, port))}
	case exempted:
		return &PolicyError{Asked: asked, Addr: ip,
			Reason: `a "*.suffix" rule does not allow loopback addresses`,
			hint:   "the name resolves to the server itself; if this is intended, allow " + strconv.Quote(literal(ip, port))}
	}
	return noRule(asked, ip)
}

// AllowUnix returns nil if the policy allows a connection to the socket at an
// absolute path, else a *PolicyError. It compares paths as text and does not
// follow symbolic links: a user with write access to an allowed directory can
// place a link there.
func (p *Policy) AllowUnix(name string) error {
	asked := "unix:" + name
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.IndexByte(name, 0) >= 0 {
		return &PolicyError{Asked: asked, Reason: "the path is not absolute and in its shortest form",
			hint: "ask for an absolute path without . and .. and doubled slashes"}
	}
	for _, r := range p.list() {
		switch r.kind {
		case unixPath:
			if name == r.text {
				return nil
			}
		case unixTree:
			if len(name) > len(r.text) && strings.HasPrefix(name, r.text) {
				return nil
			}
		}
	}
	return noRule(asked, netip.Addr{})
}

// AllowTarget returns nil if the policy allows the named target, else a
// *PolicyError. The target's own address needs no further rule.
func (p *Policy) AllowTarget(name string) error {
	for _, r := range p.list() {
		if r.kind == targetName && name == r.text {
			return nil
		}
	}
	return noRule(name, netip.Addr{})
}

// noRule is the refusal of what no rule matches.
func noRule(asked string, addr netip.Addr) error {
	return &PolicyError{Asked: asked, Addr: addr, Reason: "no rule matches",
		hint: "to permit it, add a rule to this user's allow list on the server, such as " + quote(asked)}
}

// badHost is the refusal of something that is no address and no host name.
func badHost(host string, port uint16, reason string) error {
	return &PolicyError{Asked: joinHostPort(host, port), Reason: reason,
		hint: "ask for an IP address without a zone, or for a host name in ASCII"}
}

func joinHostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// literal returns the rule that allows exactly this address and port.
func literal(addr netip.Addr, port uint16) string {
	return netip.AddrPortFrom(addr, port).String()
}
