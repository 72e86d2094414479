// Package descriptors keeps some of the process's file descriptors free for what must not fail: a
// client's connection to its server and the files with its credentials, a server's new connections,
// on which clients resume their sessions.
//
// A Listener accepts nothing while fewer than reserve descriptors are left; connections wait in its
// backlog. Dials to targets, of which one client can ask for many, end earlier, at twice the reserve.
package descriptors

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// reserve is how many descriptors accepted connections leave free, or an eighth of a limit below
	// 256. A dial takes several: the sockets of the resolver, one for each address that it tries.
	reserve = 32
	// pause is the time between two looks for a free descriptor.
	pause = 50 * time.Millisecond
	// warnInterval is the least time between two log lines.
	warnInterval = time.Minute
)

// Hint says how to raise the limit.
const Hint = "raise the limit: ulimit -n in the shell that starts adit, LimitNOFILE= in its systemd unit"

// Shortage logs when descriptors run short, for one server or client. It is safe for concurrent use.
type Shortage struct {
	Log *slog.Logger

	mu     sync.Mutex
	warned time.Time
}

// Listener wraps ln so that Accept waits while descriptors are short. Accept does not return the
// errors that say so.
func (s *Shortage) Listener(ln net.Listener) net.Listener {
	return &listener{Listener: ln, shortage: s, closed: make(chan struct{})}
}

// Warn logs that descriptors are short, once in a minute.
func (s *Shortage) Warn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.warned) < warnInterval {
		return
	}
	s.warned = time.Now()
	s.Log.Warn("file descriptors short", "limit", limit(), "hint", Hint)
}

type listener struct {
	net.Listener
	shortage *Shortage
	close    sync.Once
	closed   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		for short(1) && l.pause() {
		}
		conn, err := l.Listener.Accept()
		if err == nil || !Short(err) || !l.pause() {
			return conn, err
		}
	}
}

// pause waits a moment for descriptors to be closed. It returns false if the listener is closed.
func (l *listener) pause() bool {
	l.shortage.Warn()
	select {
	case <-time.After(pause):
		return true
	case <-l.closed:
		return false
	}
}

func (l *listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// CheckDial returns an error that wraps EMFILE if a dial to a target would take a descriptor from
// those that new connections need.
func CheckDial() error {
	if !short(2) {
		return nil
	}
	return fmt.Errorf("file descriptors short (limit %d): %w", limit(), syscall.EMFILE)
}

// Short reports whether err says that descriptors are short.
func Short(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// short reports whether fewer than n reserves are free. The system gives out the lowest free
// descriptor, so all below that are in use.
func short(n int) bool {
	limit := limit()
	return limit > 0 && lowestFree() >= limit-n*min(reserve, limit/8)
}
