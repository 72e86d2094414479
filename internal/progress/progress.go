// Package progress is the health check of server and client: it distinguishes a stuck process from
// an idle one.
//
// Goroutines that wait for events may wait forever, so inactivity proves nothing. A Monitor checks
// what must be fast whether the process is idle or busy: accept loops return to Accept, and the
// locks and loops that every connection needs respond.
package progress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// acceptTimeout is how long an accept loop may take from one connection to the next call of Accept.
// After an error, such as a lack of file descriptors, loops pause for up to a second.
const acceptTimeout = 5 * time.Second

// Monitor checks the progress of one server or client. The zero value is ready for use. It is safe
// for concurrent use and must not be copied.
type Monitor struct {
	// Guarded by mu.
	mu       sync.Mutex
	loops    map[*listener]struct{}
	checking chan struct{} // holds one element while a probe runs
}

// Listener wraps ln so that Check watches its accept loop, from the first call of Accept until
// Accept fails because ln is closed.
func (m *Monitor) Listener(ln net.Listener) net.Listener {
	return &listener{Listener: ln, monitor: m}
}

// listener records when its accept loop last left Accept.
type listener struct {
	net.Listener
	monitor *Monitor
	left    time.Time // zero while the loop waits in Accept; guarded by monitor.mu
}

func (l *listener) Accept() (net.Conn, error) {
	l.monitor.note(l, time.Time{}, false)
	conn, err := l.Listener.Accept()
	l.monitor.note(l, time.Now(), errors.Is(err, net.ErrClosed))
	return conn, err
}

func (m *Monitor) note(l *listener, left time.Time, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.left = left
	if closed {
		delete(m.loops, l)
		return
	}
	if m.loops == nil {
		m.loops = make(map[*listener]struct{})
	}
	m.loops[l] = struct{}{}
}

// Check returns nil if every accept loop is in Accept or was recently, and probe returns nil before
// ctx ends. probe acquires and releases the locks and queries the loops on which the owner's work
// depends. Before each it calls at with its name, which an error then contains. It should take about
// a millisecond, and must return when ctx ends while it waits in a select.
//
// One probe runs at a time; concurrent calls wait for it. So a probe that never returns costs one
// goroutine, however often Check is called.
func (m *Monitor) Check(ctx context.Context, probe func(ctx context.Context, at func(place string)) error) error {
	if err := m.acceptLoops(); err != nil {
		return err
	}
	checking := m.slot()
	select {
	case checking <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("stuck: the previous check has not returned: %w", context.Cause(ctx))
	}
	var place atomic.Pointer[string]
	probed := make(chan error, 1)
	go func() {
		defer func() { <-checking }()
		probed <- probe(ctx, func(p string) { place.Store(&p) })
	}()
	select {
	case err := <-probed:
		return err
	case <-ctx.Done():
	}
	where := "the start"
	if p := place.Load(); p != nil {
		where = *p
	}
	return fmt.Errorf("stuck at %s: %w", where, context.Cause(ctx))
}

// slot returns the channel that limits probes to one at a time.
func (m *Monitor) slot() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.checking == nil {
		m.checking = make(chan struct{}, 1)
	}
	return m.checking
}

// acceptLoops returns an error if a loop has left Accept for longer than acceptTimeout.
func (m *Monitor) acceptLoops() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.loops {
		if !l.left.IsZero() && time.Since(l.left) > acceptTimeout {
			return fmt.Errorf("stuck: the accept loop of %s", l.Addr())
		}
	}
	return nil
}
