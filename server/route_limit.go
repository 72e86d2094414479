package server

import (
	"net/netip"
	"sync"
)

// routeLimit counts the connections of a route. The zero value is ready for use.
type routeLimit struct {
	// Guarded by mu.
	mu        sync.Mutex
	total     int
	byAddress map[netip.Prefix]int
}

// add counts one more connection of a client, or returns why there may not be
// one. A bound of zero or less is none. The caller calls release once, when the
// connection has ended.
func (l *routeLimit) add(client netip.Addr, max, maxPerAddress int) (release func(), refused string) {
	prefix := addrPrefix(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	if max > 0 && l.total >= max {
		return nil, "the route has too many connections"
	}
	if maxPerAddress > 0 && l.byAddress[prefix] >= maxPerAddress {
		return nil, "this address has too many connections"
	}
	if l.byAddress == nil {
		l.byAddress = make(map[netip.Prefix]int)
	}
	l.total++
	l.byAddress[prefix]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total--
		if l.byAddress[prefix]--; l.byAddress[prefix] == 0 {
			delete(l.byAddress, prefix)
		}
	}, ""
}
