package server

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the log lines that unauthenticated clients can cause, so that they
// cannot fill the disk: so many of one address (IPv6: one /64), and of all
// together, in each period. Further ones are counted, and the counts are logged
// at the end of the period.
const (
	boundedLogPeriod     = time.Minute
	boundedLogPerAddress = 20
	boundedLogOfAll      = 600
)

// boundedLog bounds the lines with one message. The first line begins a period.
type boundedLog struct {
	log     *slog.Logger
	message string

	// Guarded by mu.
	mu        sync.Mutex
	timer     *time.Timer // ends the period; nil between periods
	addresses map[netip.Prefix]*addressLines
	lines     int // in this period
	others    int // suppressed lines of clients that are not in addresses
}

// addressLines counts the lines about one address in this period.
type addressLines struct {
	last       netip.AddrPort
	lines      int
	suppressed int
}

// allow reports whether one more line about a client may be logged. Otherwise it
// counts the line as suppressed.
func (b *boundedLog) allow(client netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer == nil {
		b.addresses = make(map[netip.Prefix]*addressLines)
		b.timer = time.AfterFunc(boundedLogPeriod, b.flush)
	}
	key := addrPrefix(client.Addr())
	a := b.addresses[key]
	if a == nil {
		if b.lines >= boundedLogOfAll { // which bounds addresses, too
			b.others++
			return false
		}
		a = &addressLines{}
		b.addresses[key] = a
	}
	a.last = client
	if a.lines >= boundedLogPerAddress || b.lines >= boundedLogOfAll {
		a.suppressed++
		return false
	}
	a.lines++
	b.lines++
	return true
}

// flush ends the period and logs the counts of suppressed lines.
func (b *boundedLog) flush() {
	b.mu.Lock()
	if b.timer != nil {
		b.timer.Stop()
	}
	addresses, others := b.addresses, b.others
	b.timer, b.addresses, b.lines, b.others = nil, nil, 0, 0
	b.mu.Unlock()
	for _, a := range addresses {
		if a.suppressed > 0 {
			b.log.Warn(b.message+" repeatedly", "addr", addrText(a.last), "times", a.suppressed)
		}
	}
	if others > 0 {
		b.log.Warn(b.message+" from further addresses", "times", others)
	}
}

// truncate shortens what a client sent to the length that is logged of it.
func truncate(s string) string {
	const limit = 128
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
