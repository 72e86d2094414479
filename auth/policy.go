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
// A server asks twice for each TCP stream: MayAsk before it resolves the name,
// so that a forbidden name causes no DNS query, and Authorize for the address
// it is about to connect to, from net.Dialer.ControlContext. Only the second
// counts: what a name resolves to is the resolver's word, not the operator's.
type Policy struct {
	rules []Rule
}

// ParsePolicy reads rules:
//
//	HOST:PORTS       HOST is an IP address, a CIDR, a name, "*.suffix" (the
//	                 names below it, not itself) or "*"; IPv6 and its CIDRs in
//	                 brackets. PORTS is "*", "N", "N-M" or a comma list.
//	PORTS            those ports on loopback addresses
//	unix:/PATH       one socket; "unix:/DIR/*" every socket below a directory
//	NAME             a target that the server names (letters, digits, - and _,
//	                 a letter first)
//
// Addresses and CIDRs match the address that is connected to, however it was
// asked for; names match the name that was asked for. Link-local, multicast,
// broadcast, unspecified and cloud metadata addresses are reached only by a
// rule that is that address or a CIDR wholly inside that range, "*.suffix"
// never reaches a loopback address, and "*" reaches everything else.
//
// The error joins a *RuleError for each bad rule.
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

// list is the rules; nil has none.
func (p *Policy) list() []Rule {
	if p == nil {
		return nil
	}
	return p.rules
}

// MayAsk reports, before any name resolution, whether some answer could make
// Authorize agree: nil, or a *PolicyError. host is an IP address without
// brackets, or a name.
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

// Authorize reports whether host, as it was asked for, may be connected to at
// the resolved address addr: nil, or a *PolicyError. It does not allocate when
// it agrees.
func (p *Policy) Authorize(host string, addr netip.AddrPort) error {
	ip, port := addr.Addr(), addr.Port()
	if !ip.IsValid() || ip.Zone() != "" {
		return badHost(host, port, "an address with a zone, or none at all")
	}
	ip = ip.Unmap()
	kind := specialKind(ip)
	loopback := ip.IsLoopback() || carried(ip).IsLoopback()
	name := trimDot(host)
	nearly := false // a rule matched but for the special address
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
		nearly = nearly || match
	}
	asked := joinHostPort(host, port)
	switch {
	case nearly && kind != "":
		return &PolicyError{Asked: asked, Addr: ip,
			Reason: kind + " addresses are reached only by a rule that names them",
			hint:   "if this is really meant, allow exactly that address: " + strconv.Quote(literal(ip, port))}
	case nearly:
		return &PolicyError{Asked: asked, Addr: ip,
			Reason: `a "*.suffix" rule does not reach loopback addresses`,
			hint:   "the name resolves to the server itself; if this is meant, allow " + strconv.Quote(literal(ip, port))}
	}
	return noRule(asked, ip)
}

// AllowUnix reports whether the socket at an absolute path may be connected
// to: nil, or a *PolicyError. The path is judged as text: whoever may write
// below an allowed directory can place a symbolic link there.
func (p *Policy) AllowUnix(name string) error {
	asked := "unix:" + name
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.IndexByte(name, 0) >= 0 {
		return &PolicyError{Asked: asked, Reason: "the path is not absolute and in its shortest form",
			hint: "ask for the path without . and .. and doubled slashes"}
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

// AllowTarget reports whether the target that the server names so may be
// used: nil, or a *PolicyError. The target's own address is then not judged.
func (p *Policy) AllowTarget(name string) error {
	for _, r := range p.list() {
		if r.kind == targetName && name == r.text {
			return nil
		}
	}
	return noRule(name, netip.Addr{})
}

func noRule(asked string, addr netip.Addr) error {
	return &PolicyError{Asked: asked, Addr: addr, Reason: "no rule matches",
		hint: "to permit it, add a rule to this user's allow list on the server, such as " + quote(asked)}
}

func badHost(host string, port uint16, reason string) error {
	return &PolicyError{Asked: joinHostPort(host, port), Reason: reason,
		hint: "ask for an IP address without a zone, or for a host name in ASCII"}
}

func joinHostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// literal is the rule for exactly this address and port.
func literal(addr netip.Addr, port uint16) string {
	return netip.AddrPortFrom(addr, port).String()
}
