package auth

import "net/netip"

// special lists the addresses that no rule reaches by accident: what lives
// there is the host itself, its neighbours on the wire, or a cloud's metadata
// service, which hands out the machine's own credentials. A rule reaches one
// only when it lies wholly inside every range here that holds the address.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	// Metadata first: the refusal then names it, rather than link-local.
	{netip.MustParsePrefix("169.254.169.254/32"), "cloud metadata"}, // AWS, Azure, GCP and others
	{netip.MustParsePrefix("fd00:ec2::254/128"), "cloud metadata"},  // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), "cloud metadata"},   // GCP
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},   // Azure
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"}, // 0.0.0.0 connects to the host itself
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
}

// Prefixes whose addresses carry an IPv4 address that a translator or a
// tunnel on the way would connect to.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// carried returns the IPv4 address inside an IPv6 one, or addr itself.
func carried(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}

// specialKind names the first special range that holds addr, or what addr
// carries; "" when there is none. addr is unmapped.
func specialKind(addr netip.Addr) string {
	inner := carried(addr)
	for i := range special {
		if p := special[i].prefix; p.Contains(addr) || p.Contains(inner) {
			return special[i].what
		}
	}
	return ""
}

// namesSpecial reports whether a rule's prefix is narrow enough to mean the
// special address addr, which it contains.
func namesSpecial(rule netip.Prefix, addr netip.Addr) bool {
	if rule.IsSingleIP() {
		return true
	}
	if specialKind(carried(addr)) != "" && carried(addr) != addr {
		return false // special for what it carries: only by its exact address
	}
	for i := range special {
		p := special[i].prefix
		if p.Contains(addr) && (rule.Bits() < p.Bits() || !p.Contains(rule.Addr())) {
			return false
		}
	}
	return true
}
