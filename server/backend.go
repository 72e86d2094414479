package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"adit/internal/dialout"
	"adit/tunnel"
)

// backendPause is how long a backend that failed is tried last.
const backendPause = time.Second

// pool is the backends of a route.
type pool struct {
	backends []*backend

	mu   *sync.Mutex // of all pools of the same route, which share backends
	next int         // where the search for the least busy one begins
}

// backend is one backend, which outlives a SetAccess that keeps it.
type backend struct {
	name string          // as configured
	to   dialout.Address // where that is

	// Under pool.mu.
	conns  int       // connections and attempts
	failed time.Time // until then it is tried last
}

// newPool parses the backends of a route. Those that are in old, which may be
// nil, keep their counts.
func newPool(names []string, targets map[string]string, old *pool) (*pool, []error) {
	p := &pool{mu: new(sync.Mutex)}
	if old != nil {
		p.mu = old.mu
	}
	var faults []error
	if len(names) == 0 {
		faults = append(faults, errors.New("there is none"))
	}
	seen := make(map[dialout.Address]bool)
	for _, name := range names {
		text := name
		if target, ok := targets[name]; ok {
			text = target
		}
		to, err := dialout.ParseAddress(text)
		switch {
		case err != nil && len(targets) > 0:
			faults = append(faults, fmt.Errorf("%w, nor one of the targets %q", err, targetNames(targets)))
			continue
		case err != nil:
			faults = append(faults, err)
			continue
		case seen[to]:
			faults = append(faults, fmt.Errorf("%q is there twice", name))
			continue
		}
		seen[to] = true
		b := &backend{name: name, to: to}
		if old != nil {
			if i := slices.IndexFunc(old.backends, func(x *backend) bool { return x.name == name && x.to == to }); i >= 0 {
				b = old.backends[i]
			}
		}
		p.backends = append(p.backends, b)
	}
	return p, faults
}

// errNoBackend reports that no backend could be connected to.
var errNoBackend = errors.New("no backend can be reached")

// dial connects to the least busy backend, or to another if that fails,
// within timeout. release is to be called when the connection has ended. The
// error wraps errNoBackend and os.ErrDeadlineExceeded where one was too slow.
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
			return conn, b.name, sync.OnceFunc(func() { p.release(b, false) }), nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", b.name, err))
		// That the client went away says nothing of the backend.
		p.release(b, context.Cause(ctx) != context.Canceled)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", nil, fmt.Errorf("%w: %w", errNoBackend, errors.Join(faults...))
}

// pick takes the best backend that has not been tried: of those that did not
// fail lately, or of the others, the one with the fewest connections; among
// equals they take turns.
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

func (b *backend) better(c *backend, now time.Time) bool {
	if paused := now.Before(b.failed); paused != now.Before(c.failed) {
		return !paused
	}
	return b.conns < c.conns
}

func (p *pool) release(b *backend, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.conns--
	if failed {
		b.failed = time.Now().Add(backendPause)
	}
}

// dial connects to the backend while left backends, this one among them, may
// still be tried within the deadline of ctx.
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

// backendEnd is the endpoint of a relay at the backend. It sees to it that the
// backend's last words reach the client, whatever happens to the other
// direction.
type backendEnd struct {
	*tunnel.Socket
	broken func(error) // called when reading or writing fails
	deaf   bool        // it takes no more data; of the writer
}

// Read is Socket's.
func (e *backendEnd) Read(p []byte) (int, error) {
	n, err := e.Socket.Read(p)
	return n, e.note(err)
}

// ReadBuffer is Socket's.
func (e *backendEnd) ReadBuffer(size int) (*tunnel.Buffer, int, error) {
	b, n, err := e.Socket.ReadBuffer(size)
	return b, n, e.note(err)
}

func (e *backendEnd) note(err error) error {
	if err != nil && err != io.EOF {
		e.broken(err)
	}
	return err
}

// Write discards what a backend does not take that has ended or reset its
// connection. There may be data of its own left to read, and behind that is
// the truth about how it ended.
func (e *backendEnd) Write(p []byte) (int, error) {
	if e.deaf {
		return len(p), nil
	}
	n, err := e.Socket.Write(p)
	if err != nil && isGone(err) {
		e.deaf = true
		return len(p), nil
	}
	return n, e.note(err)
}

// CloseWrite is Socket's, except that a connection that is no more needs none.
func (e *backendEnd) CloseWrite() error {
	if err := e.Socket.CloseWrite(); err != nil && !isGone(err) {
		return e.note(err)
	}
	return nil
}

// isGone reports an error of a connection that the peer has ended or reset.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN)
}
