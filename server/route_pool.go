package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"adit/internal/dialout"
)

// backendPause is how long a failed backend is tried last.
const backendPause = time.Second

// pool is the backends of a route.
type pool struct {
	backends []*backend

	// Guarded by mu, which the pools of a route before and after a SetAccess
	// share, because they may share backends.
	mu   *sync.Mutex
	next int // where the search for the least busy backend begins
}

// backend is one backend. It outlives a SetAccess that keeps it.
type backend struct {
	name string // as configured
	to   dialout.Address

	// Guarded by pool.mu.
	conns       int       // connections and attempts
	failedUntil time.Time // it is tried last until then
	failure     error     // the last one
}

// newPool resolves the names of a route's backends: of targets, or addresses.
// Backends that are in old, which may be nil, keep their counts.
func newPool(names []string, targets map[string]dialout.Address, old *pool) (*pool, []error) {
	p := &pool{mu: new(sync.Mutex)}
	if old != nil {
		p.mu = old.mu
	}
	var faults []error
	if len(names) == 0 {
		faults = append(faults, errors.New("at least one is needed"))
	}
	seen := make(map[dialout.Address]bool)
	for _, name := range names {
		to, isTarget := targets[name]
		var err error
		if !isTarget {
			to, err = dialout.ParseAddress(name)
		}
		switch {
		case err != nil && len(targets) > 0:
			faults = append(faults, fmt.Errorf("%w, nor one of the targets %q", err, slices.Sorted(maps.Keys(targets))))
			continue
		case err != nil:
			faults = append(faults, err)
			continue
		case seen[to]:
			faults = append(faults, fmt.Errorf("%q appears twice", name))
			continue
		}
		seen[to] = true
		p.backends = append(p.backends, old.keep(&backend{name: name, to: to}))
	}
	return p, faults
}

// keep returns the pool's backend that is equal to b, or b.
func (p *pool) keep(b *backend) *backend {
	if p != nil {
		for _, x := range p.backends {
			if x.name == b.name && x.to == b.to {
				return x
			}
		}
	}
	return b
}

// errNoBackend says that no backend could be connected to.
var errNoBackend = errors.New("no backend can be reached")

// dial connects to the least busy backend, or to another if that fails, within
// timeout. The caller calls release when the connection has ended. The error
// wraps errNoBackend, and os.ErrDeadlineExceeded if a backend was too slow.
func (p *pool) dial(ctx context.Context, resolver *net.Resolver, timeout time.Duration) (conn net.Conn, name string, release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tried := make([]bool, len(p.backends))
	var faults []error
	for left := len(p.backends); left > 0; left-- {
		i := p.pick(tried)
		tried[i] = true
		b := p.backends[i]
		conn, err := b.dial(ctx, resolver, left)
		if err == nil {
			return conn, b.name, sync.OnceFunc(func() { p.release(b, nil) }), nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", b.name, err))
		// If the client went away, the backend has not failed.
		failure := err
		if context.Cause(ctx) == context.Canceled {
			failure = nil
		}
		p.release(b, failure)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", nil, fmt.Errorf("%w: %w", errNoBackend, errors.Join(faults...))
}

// pick returns the index of the best backend that has not been tried, and counts
// a connection of it: one that has not failed in the last backendPause before one
// that has, then the one with the fewest connections. Equal ones take turns.
func (p *pool) pick(tried []bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	best := -1
	for k := range p.backends {
		i := (p.next + k) % len(p.backends)
		if tried[i] {
			continue
		}
		if best < 0 || p.backends[i].better(p.backends[best], now) {
			best = i
		}
	}
	p.next = (best + 1) % len(p.backends)
	p.backends[best].conns++
	return best
}

// better reports whether pick prefers b to c.
func (b *backend) better(c *backend, now time.Time) bool {
	if paused := now.Before(b.failedUntil); paused != now.Before(c.failedUntil) {
		return !paused
	}
	return b.conns < c.conns
}

// release takes back the connection that pick has counted. failure is why there was
// none, unless that was the client's choice.
func (p *pool) release(b *backend, failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.conns--
	if failure != nil {
		b.failure = failure
		b.failedUntil = time.Now().Add(backendPause)
	}
}

// dial connects to the backend within its share of the time until the deadline
// of ctx: left backends, this one included, have not been tried.
func (b *backend) dial(ctx context.Context, resolver *net.Resolver, left int) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
	defer cancel()
	conn, err := dialout.Destination{Address: b.to}.Dial(ctx, resolver)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return nil, err
}
