package server

import (
	"net/netip"
	"sync"
)

// places counts the connections of a route, for its limits. The zero value is
// ready for use.
type places struct {
	mu        sync.Mutex
	total     int
	byAddress map[netip.Prefix]int
}

// take takes a place for a client, or says why there is none. A bound of zero
// or less is none. Whoever took a place gives it back once.
func (p *places) take(client netip.Addr, max, maxPerAddress int) (giveBack func(), refused string) {
	prefix := addrPrefix(client)
	p.mu.Lock()
	defer p.mu.Unlock()
	if max > 0 && p.total >= max {
		return nil, "the route has too many connections"
	}
	if maxPerAddress > 0 && p.byAddress[prefix] >= maxPerAddress {
		return nil, "this address has too many connections"
	}
	if p.byAddress == nil {
		p.byAddress = make(map[netip.Prefix]int)
	}
	p.total++
	p.byAddress[prefix]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.total--
		if p.byAddress[prefix]--; p.byAddress[prefix] == 0 {
			delete(p.byAddress, prefix)
		}
	}, ""
}

// addrPrefix is what counts as one client: an IPv4 address, or the /64 that
// an IPv6 host can choose its addresses from. Without an address it is the
// zero Prefix.
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
