package server

import (
	"sync"

	"adit/internal/metrics"
)

// routeCounters counts the connections of a route and their payload.
type routeCounters struct {
	refused *metrics.Tally

	// Guarded by mu.
	mu             sync.Mutex
	live           map[*clientEnd]struct{}
	opened         uint64
	received, sent uint64 // payload of ended connections, in bytes
}

func newRouteCounters() *routeCounters {
	return &routeCounters{
		refused: metrics.NewTally("backend", "limit", "origin", "timeout", "user"),
		live:    make(map[*clientEnd]struct{}),
	}
}

func (r *routeCounters) begin(c *clientEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[c] = struct{}{}
	r.opened++
}

func (r *routeCounters) end(c *clientEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, c)
	r.received += c.receivedBytes.Load()
	r.sent += c.sentBytes.Load()
}

// routeTotals are the counts of a route at one moment.
type routeTotals struct {
	live                   int
	opened, received, sent uint64
}

func (r *routeCounters) totals() routeTotals {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := routeTotals{len(r.live), r.opened, r.received, r.sent}
	for c := range r.live {
		t.received += c.receivedBytes.Load()
		t.sent += c.sentBytes.Load()
	}
	return t
}
