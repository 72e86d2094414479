package mux

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"adit/mux/link"
)

// Session is a set of streams over one link. Its methods are safe for concurrent
// use. It owns the link and its connection.
type Session struct {
	core
	cfg   Config
	peer  hello
	yamux *yamux.Session

	// What a resumption needs.
	key      *sessionKey   // nil: the session ends with its connection
	attempt  uint32        // the last attempt to resume it; guarded by resuming
	resuming chan struct{} // capacity 1; holds a value during an attempt
	owner    string        // who may resume it; set before the session begins
	store    sessionStore  // what keeps it for a resumption, or nil

	// Guarded by mu.
	mu        sync.Mutex
	streams   map[uint32]*Stream
	opened    int            // how many of these this side opened
	opening   int            // calls of Open that have still to add theirs
	early     [64]earlyReset // the last resets of unknown streams
	nextEarly int
	lastID    uint32        // the largest stream id so far
	peerAway  bool          // the peer takes no new streams
	closing   bool          // the link is over, and the streams are being told
	idle      chan struct{} // closed when no stream is left; nil before Shutdown

	recycleID  uint32 // at this stream id the session should be replaced
	endOnce    sync.Once
	goAway     sync.Once
	goingAway  chan struct{}      // closed when new streams should be opened on another session
	migrations chan time.Duration // capacity 1

	done chan struct{}
	wg   sync.WaitGroup
}

// sessionStore keeps the sessions of a server for resumption.
type sessionStore interface {
	// review is called whenever the session has lost its connection, or has one
	// again.
	review(*Session)
	// remove is called when the session has ended.
	remove(*Session)
}

func newSession(cfg Config, peer hello) *Session {
	return &Session{
		core: core{openTimeout: cfg.OpenTimeout},
		cfg:  cfg, peer: peer, recycleID: 2 * uint32(cfg.RecycleAfter), resuming: make(chan struct{}, 1),
		streams:   make(map[uint32]*Stream),
		goingAway: make(chan struct{}), migrations: make(chan time.Duration, 1), done: make(chan struct{}),
	}
}

// NumStreams is the number of streams that are not closed.
func (s *Session) NumStreams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// RTT is the smoothed round-trip time of the link, 0 while it is unknown.
func (s *Session) RTT() time.Duration { return s.link.RTT() }

// Probe asks the peer for a sign of life. The connection counts as lost when
// none comes within a few seconds. It is for a hint that the network changed.
func (s *Session) Probe() { s.link.Probe() }

// GoingAway is closed when new streams should be opened on another session: the peer
// takes none here any more, or the stream ids of this one will run out. In the latter
// case streams can still be opened until the other session is there.
func (s *Session) GoingAway() <-chan struct{} { return s.goingAway }

// SendGoingAway asks the peer to open no new streams, as Shutdown does, but takes
// those that come all the same: they may have crossed with it.
func (s *Session) SendGoingAway() { s.control.send(controlFrame{typ: controlGoingAway}) }

// Migrations gives the server's requests to migrate to a new connection at some
// moment within the time given.
func (s *Session) Migrations() <-chan time.Duration { return s.migrations }

// RequestMigration asks the client to migrate to a new connection at a random
// moment within a time. Nothing is lost by it.
func (s *Session) RequestMigration(within time.Duration) {
	s.control.send(controlFrame{typ: controlMigrate, value: milliseconds(within)})
}

// Down is closed when the session's present connection is lost. While there is
// none, it is closed.
func (s *Session) Down() <-chan struct{} { return s.link.Down() }

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives. It wraps ErrLinkLost if the connection was
// lost, and a *ClosedError if the peer sent a close message.
func (s *Session) Err() error {
	if !closed(s.done) {
		return nil
	}
	return s.link.Err()
}

// Stats is the state of a session. Counts are of its whole life, across
// resumptions.
type Stats struct {
	link.Stats
	// Streams is the number of streams that are not closed.
	Streams int
}

// Stats returns the state of the session. It may be called at any time, also
// after the end; it takes locks, so it is not for every frame.
func (s *Session) Stats() Stats { return Stats{s.link.Stats(), s.NumStreams()} }

// Shutdown refuses new streams, asks the peer to open none, waits until the
// present ones have ended or ctx is done, and closes the session with a reason
// for the peer. It returns ctx's error when streams were cut short.
func (s *Session) Shutdown(ctx context.Context, code CloseCode, reason string) error {
	s.mu.Lock()
	if s.idle == nil {
		s.idle = make(chan struct{})
		if len(s.streams) == 0 {
			close(s.idle)
		}
	}
	idle := s.idle
	s.mu.Unlock()
	s.SendGoingAway()
	var err error
	select {
	case <-idle:
	case <-s.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.CloseReason(code, reason)
	return err
}

// CloseReason ends the session for a reason that the peer is told. What was
// written before arrives, within a few seconds; streams that are open are reset.
func (s *Session) CloseReason(code CloseCode, reason string) {
	s.link.Finish(code, reason)
	s.Close()
}

// Close ends the session at once; its streams are reset. It returns when
// everything that the session started has ended.
func (s *Session) Close() error {
	s.link.Close()
	s.endStreams()
	s.yamux.Close()
	s.wg.Wait()
	s.link.Wait()
	return nil
}

// endStreams ends the streams of a session whose link is over. It comes before
// the end of yamux: from the moment that yamux closes until it has notified a
// stream in turn, a Read that is blocked in that stream spins, and thousands of
// them delay each other for minutes. What has arrived before is in the streams'
// buffers and can still be read.
func (s *Session) endStreams() {
	s.endOnce.Do(func() {
		s.mu.Lock()
		s.closing = true
		streams := slices.Collect(maps.Values(s.streams))
		s.mu.Unlock()
		for _, st := range streams {
			st.end(s.cause(nil), endLost)
		}
	})
}

// spawn runs f in a goroutine that Close waits for. It reports false, and does
// not run f, if the session is over.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.wg.Go(f)
	}
	return !s.closing
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
