// Package progress tells a process that is wedged from one that has nothing to do.
//
// What waits for events may wait for ever, and so silence proves nothing. A Monitor looks at what
// must be quick however idle or busy the process is: a loop comes back to where it waits, and a lock
// that every connection needs can be had.
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

// acceptPatience is how long an accept loop may take from one connection to the next call of Accept.
// After an error, say for want of descriptors, loops pause for up to a second.
const acceptPatience = 5 * time.Second

// Monitor watches the loops of one owner. The zero value is ready; it must not be copied. Its methods
// may be called by several goroutines.
type Monitor struct {
	mu       sync.Mutex
	loops    map[*listener]struct{}
	checking chan struct{} // full while something touches
}

// Listener returns ln for an accept loop that is to be watched: from its first call of Accept until
// Accept fails because ln is closed.
func (m *Monitor) Listener(ln net.Listener) net.Listener {
	return &listener{Listener: ln, monitor: m}
}

// listener notes since when its loop has not been back.
type listener struct {
	net.Listener
	monitor *Monitor
	away    time.Time // zero while it waits in Accept; guarded by monitor.mu
}

func (l *listener) Accept() (net.Conn, error) {
	l.monitor.note(l, time.Time{}, false)
	conn, err := l.Listener.Accept()
	l.monitor.note(l, time.Now(), errors.Is(err, net.ErrClosed))
	return conn, err
}

func (m *Monitor) note(l *listener, away time.Time, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.away = away
	if closed {
		delete(m.loops, l)
		return
	}
	if m.loops == nil {
		m.loops = make(map[*listener]struct{})
	}
	m.loops[l] = struct{}{}
}

// Check returns nil when every accept loop is where it should be and touch has returned nil before
// ctx is done. touch goes through the locks and loops that the owner's work depends on; before each
// of them it calls at with what comes next, for the error. It should not do more than one of its
// size does in a millisecond, and heed ctx where it waits in a select.
//
// One touch runs at a time, and further calls wait for it: one that never returns keeps a goroutine,
// but only one.
func (m *Monitor) Check(ctx context.Context, touch func(ctx context.Context, at func(place string)) error) error {
	if err := m.acceptLoops(); err != nil {
		return err
	}
	checking := m.slot()
	select {
	case checking <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("stuck: the check before this one has not come back: %w", context.Cause(ctx))
	}
	var place atomic.Pointer[string]
	touched := make(chan error, 1)
	go func() {
		defer func() { <-checking }()
		touched <- touch(ctx, func(p string) { place.Store(&p) })
	}()
	select {
	case err := <-touched:
		return err
	case <-ctx.Done():
	}
	where := "the start"
	if p := place.Load(); p != nil {
		where = *p
	}
	return fmt.Errorf("stuck at %s: %w", where, context.Cause(ctx))
}

func (m *Monitor) slot() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.checking == nil {
		m.checking = make(chan struct{}, 1)
	}
	return m.checking
}

func (m *Monitor) acceptLoops() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.loops {
		if !l.away.IsZero() && time.Since(l.away) > acceptPatience {
			return fmt.Errorf("stuck: nobody accepts on %s any more", l.Addr())
		}
	}
	return nil
}
