package auth

import "net/netip"

// special lists the ranges that a wide rule does not include: the host itself,
// its neighbors on the local link, and the metadata services of clouds, which
// hand out the machine's own credentials. A rule allows a special address only
// if the rule lies wholly inside every range here that contains the address.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	// Metadata precedes link-local, so that the refusal names the former.
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

// Prefixes of IPv6 addresses that embed an IPv4 address, to which a translator
// or a tunnel in the network would connect.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// embedded returns the IPv4 address that an IPv6 address embeds, or addr.
func embedded(addr netip.Addr) netip.Addr {
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

// specialKind returns what the first special range is that contains addr or
// its embedded IPv4 address, or "" if none does. addr is not IPv4-mapped.
func specialKind(addr netip.Addr) string {
	inner := embedded(addr)
	for i := range special {
		if p := special[i].prefix; p.Contains(addr) || p.Contains(inner) {
			return special[i].what
		}
	}
	return ""
}

// namesSpecial reports whether a rule's prefix, which contains the special
// address addr, is narrow enough to allow it.
func namesSpecial(rule netip.Prefix, addr netip.Addr) bool {
	if rule.IsSingleIP() {
		return true
	}
	if specialKind(embedded(addr)) != "" && embedded(addr) != addr {
		return false // special for its embedded address: only the exact address allows it
	}
	for i := range special {
		p := special[i].prefix
		if p.Contains(addr) && (rule.Bits() < p.Bits() || !p.Contains(rule.Addr())) {
			return false
		}
	}
	return true
}
