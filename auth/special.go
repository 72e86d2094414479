package auth

import (
	"net/netip"
	"slices"
)

// special lists the ranges that a wide rule does not include: the host itself,
// its neighbors on the local link, and the metadata services of clouds, which
// hand out the machine's own credentials. A rule allows a special address only
// if the rule lies wholly inside every range here that contains the address.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	// Metadata precedes link-local, so that the refusal names the former.
	{netip.MustParsePrefix("169.254.169.254/32"), "cloud metadata"},     // AWS, Azure, GCP and others
	{netip.MustParsePrefix("fd00:ec2::/32"), "cloud metadata"},          // AWS: metadata, container credentials, DNS, time
	{netip.MustParsePrefix("fd20:ce::254/128"), "cloud metadata"},       // GCP
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"},     // Alibaba
	{netip.MustParsePrefix("fd00:100::100:200/128"), "cloud metadata"},  // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},       // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), "cloud metadata"},         // Oracle
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "cloud metadata"}, // Oracle
	{netip.MustParsePrefix("fd00:42::42/128"), "cloud metadata"},        // Scaleway
	{netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), "cloud metadata"},  // Akamai (Linode)
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
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// embedded returns the IPv4 addresses that an IPv6 address may embed; the
// others are zero. Of the local NAT64 prefix the operator of the translator
// chooses the length, and each length has its own place for the IPv4 address
// (RFC 6052, section 2.2).
func embedded(addr netip.Addr) (inner [4]netip.Addr) {
	if !addr.Is6() {
		return inner
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		inner[0] = netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		inner[0] = netip.AddrFrom4([4]byte(b[2:6]))
	case localNAT64.Contains(addr):
		inner[0] = netip.AddrFrom4([4]byte(b[12:16]))
		for i, v4 := range [...][4]byte{{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}} {
			if v4[0] != 0 { // else these bytes belong to the prefix
				inner[i+1] = netip.AddrFrom4(v4)
			}
		}
	}
	return inner
}

// isLoopback reports whether addr is a loopback address or may embed one.
func isLoopback(addr netip.Addr) bool {
	inner := embedded(addr)
	return addr.IsLoopback() || slices.ContainsFunc(inner[:], netip.Addr.IsLoopback)
}

// specialKind returns what the first special range is that contains addr or
// an embedded IPv4 address, or "" if none does. addr is not IPv4-mapped.
func specialKind(addr netip.Addr) string {
	inner := embedded(addr)
	for i := range special {
		if p := special[i].prefix; p.Contains(addr) || slices.ContainsFunc(inner[:], p.Contains) {
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
	inner := embedded(addr)
	for i := range special {
		p := special[i].prefix
		if slices.ContainsFunc(inner[:], p.Contains) {
			return false // only the exact address allows it
		}
		if p.Contains(addr) && (rule.Bits() < p.Bits() || !p.Contains(rule.Addr())) {
			return false
		}
	}
	return true
}
