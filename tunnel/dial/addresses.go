package dial

import (
	"net/netip"
	"sync"
	"time"
)

// avoidFor is how long an address that failed is tried only after the others of its name.
const avoidFor = 10 * time.Minute

// Addresses remembers which addresses failed after TCP, so that Dial tries them last for ten minutes: one whose
// path loses large packets, for example, accepts every connection and then says nothing. The zero value is ready to
// use, nil remembers nothing, and methods may be called by several goroutines.
type Addresses struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time // of those that failed
	last  map[string]netip.AddrPort    // the last success, by the URL that was dialed
	small map[netip.AddrPort]time.Time // of those that need a small ClientHello
}

// Suspect notes that the connection that Dial made last to rawURL has gone silent.
func (m *Addresses) Suspect(rawURL string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if addr, ok := m.last[rawURL]; ok {
		m.avoidLocked(addr)
	}
}

func (m *Addresses) avoid(addr netip.AddrPort) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.avoidLocked(addr)
}

func (m *Addresses) avoidLocked(addr netip.AddrPort) {
	if m.until == nil {
		m.until = make(map[netip.AddrPort]time.Time)
	}
	now := time.Now()
	for a, until := range m.until {
		if !now.Before(until) {
			delete(m.until, a)
		}
	}
	m.until[addr] = now.Add(avoidFor)
}

// needsSmallHello reports whether only a small ClientHello has led to a connection to addr in the last ten minutes.
func (m *Addresses) needsSmallHello(addr netip.AddrPort) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.small[addr])
}

// succeeded notes that Dial has connected to rawURL by addr, which is zero for a unix socket, and whether it took a
// small ClientHello.
func (m *Addresses) succeeded(rawURL string, addr netip.AddrPort, small bool) {
	if m == nil || !addr.IsValid() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = make(map[string]netip.AddrPort)
	}
	m.last[rawURL] = addr
	delete(m.until, addr)
	if now := time.Now(); small && !now.Before(m.small[addr]) {
		if m.small == nil {
			m.small = make(map[netip.AddrPort]time.Time)
		}
		m.small[addr] = now.Add(avoidFor)
	}
}

// split returns the addresses to try first, and those to try after them, in their order.
func (m *Addresses) split(addrs []netip.AddrPort) (first, later []netip.AddrPort) {
	if m == nil {
		return addrs, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, addr := range addrs {
		if now.Before(m.until[addr]) {
			later = append(later, addr)
		} else {
			first = append(first, addr)
		}
	}
	return first, later
}
