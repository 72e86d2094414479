package mux

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Session is a set of streams over one connection. Its methods are safe for
// concurrent use. It owns the connection.
type Session struct {
	cfg     Config
	peer    hello
	link    *link
	conn    *yamuxConn
	yamux   *yamux.Session
	control *control

	key      *sessionKey   // nil: the session ends with its connection
	attempt  uint32        // the last one to resume it
	registry *Registry     // where the server's side keeps it, or nil
	owner    string        // who may resume it
	resuming chan struct{} // held by the one attempt to resume it
	waiting  *list.Element // in registry.waiting; guarded by registry.mu

	mu         sync.Mutex
	streams    map[uint32]*Stream
	opened     int            // of these, opened here
	early      [64]earlyReset // the last resets of unknown streams
	nextEarly  int
	growth     int64         // bytes of the budget that streams' windows use
	lastRecall time.Time     // when streams were last asked for what they do not use
	closing    bool          // the link is over, and the streams are being told
	idle       chan struct{} // closed when no stream is left, once Shutdown waits for it

	ending sync.Once
	away   chan struct{} // closed when the peer takes no new streams
	move   chan time.Duration

	done chan struct{}
	wg   sync.WaitGroup
}

// ended waits for the end of the session and tells its streams.
func (s *Session) ended() {
	<-s.yamux.CloseChan()
	if s.registry != nil {
		s.registry.remove(s)
	}
	s.yamux.Close() // waits for yamux's goroutines
	s.control.stop()
	close(s.done)
}

// wentDown is called when the link waits for a connection.
func (s *Session) wentDown(cause error) {
	if s.registry != nil {
		s.registry.review(s)
	}
	if s.cfg.OnDown != nil {
		s.cfg.OnDown(cause)
	}
}

// cameUp is called when the link has one again.
func (s *Session) cameUp(r Resumption) {
	if s.registry != nil {
		s.registry.review(s)
	}
	if s.cfg.OnUp != nil {
		s.cfg.OnUp(r)
	}
}

// endStreams ends the streams of a session whose link is over. That comes
// before the end of yamux: from the moment that yamux closes until it has come
// to a stream in turn, a Read that is blocked there turns in a circle, and
// thousands of them hold each other up for minutes. What has arrived before is
// in the streams' buffers and can still be read.
func (s *Session) endStreams() { s.ending.Do(s.endStreamsOnce) }

func (s *Session) endStreamsOnce() {
	s.mu.Lock()
	s.closing = true
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()
	for _, st := range streams {
		st.end(s.cause(nil), endLost)
	}
}

// spawn runs f, which does not last, in a goroutine that Close waits for, unless
// the session is over.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.wg.Go(f)
	}
	return !s.closing
}

// Open starts a stream to a target on the peer's side and returns without
// waiting for the result: data may be written at once, and the first Read, or
// Result, says how it went. The caller owns the stream and must Close it.
func (s *Session) Open(ctx context.Context, t Target) (*Stream, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	away, full := s.idle != nil, int64(s.opened) >= int64(s.peer.maxStreams)
	s.mu.Unlock()
	if away || closed(s.away) {
		return nil, &RefusedError{GoingAway, "the session takes no new streams"}
	}
	if full {
		return nil, &RefusedError{Busy, fmt.Sprintf("the other end takes %d streams at once", s.peer.maxStreams)}
	}
	// yamux blocks without end when the link stalls, and knows no context.
	type result struct {
		st  *Stream
		err error
	}
	opened := make(chan result)
	if !s.spawn(func() {
		st, err := s.open(t)
		select {
		case opened <- result{st, err}:
		case <-ctx.Done():
			if err == nil {
				st.Close()
			}
		}
	}) {
		return nil, s.cause(nil)
	}
	select {
	case r := <-opened:
		return r.st, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Session) open(t Target) (*Stream, error) {
	ys, err := s.yamux.OpenStream()
	if err != nil {
		return nil, s.cause(err)
	}
	st := s.newStream(ys, true)
	st.target = t
	if err := st.writeRaw(appendOpen(make([]byte, yamuxHeader), t)); err != nil {
		st.Close()
		return nil, s.cause(err)
	}
	return st, nil
}

// Accept returns the next stream that the peer opens. The caller owns it, must
// read its target with ReadTarget, and must Close it. Streams over MaxStreams,
// and any after Shutdown has begun, are refused here.
func (s *Session) Accept() (*Stream, error) {
	for {
		ys, err := s.yamux.AcceptStream()
		if err != nil {
			return nil, s.cause(err)
		}
		st := s.newStream(ys, false)
		s.mu.Lock()
		away, count := s.idle != nil, len(s.streams)-s.opened
		s.mu.Unlock()
		switch {
		case s.yamux.NumStreams() > s.maxHalfClosed():
			s.link.fail(protocolError("too many streams are left half closed"))
		case away:
			s.refuse(st, GoingAway, "the server is stopping")
		case count > s.cfg.MaxStreams:
			s.refuse(st, Busy, fmt.Sprintf("this session has %d streams already", s.cfg.MaxStreams))
		default:
			return st, nil
		}
	}
}

// maxHalfClosed bounds the streams that yamux knows, which includes those that
// are closed here and not by the peer. A peer that keeps within MaxStreams and
// closes what has ended stays well below it.
func (s *Session) maxHalfClosed() int { return 4*s.cfg.MaxStreams + 2*streamBacklog }

func (s *Session) refuse(st *Stream, code Code, reason string) {
	refuse := func() {
		st.Refuse(code, reason)
		st.Close()
	}
	if !s.spawn(refuse) {
		st.Close()
	}
}

func (s *Session) newStream(ys *yamux.Stream, opener bool) *Stream {
	st := &Stream{
		session: s, yamux: ys, opener: opener,
		done: make(chan struct{}), credited: make(chan struct{}, 1),
		window: window{since: time.Now()},
		raw:    s.conn.reader(ys.StreamID()),
	}
	st.credit.Store(int64(s.peer.credit))
	st.window.size.Store(int64(s.cfg.InitialCredit))
	s.mu.Lock()
	lost := s.closing
	var early *ResetError
	for _, r := range s.early {
		if r.stream == ys.StreamID() {
			early = &ResetError{Code: r.code, Remote: true}
		}
	}
	s.streams[ys.StreamID()] = st
	if opener {
		s.opened++
	}
	s.mu.Unlock()
	switch {
	case lost:
		st.end(s.cause(nil), endLost)
	case early != nil:
		st.end(early, endRemote)
	}
	return st
}

// earlyReset is a reset of a stream that is not known here: either no more, or
// not yet, because its opening waits to be accepted while the control stream
// overtakes it.
type earlyReset struct {
	stream uint32
	code   Code
}

// resetBy ends a stream that the peer has reset.
func (s *Session) resetBy(stream uint32, code Code) {
	s.mu.Lock()
	st := s.streams[stream]
	if st == nil {
		s.early[s.nextEarly] = earlyReset{stream, code}
		s.nextEarly = (s.nextEarly + 1) % len(s.early)
	}
	s.mu.Unlock()
	if st != nil {
		st.end(&ResetError{Code: code, Remote: true}, endRemote)
	}
}

// forget is called once for each stream, when it is closed. What the peer may
// still send on it is discarded as it comes.
func (s *Session) forget(st *Stream) {
	id := st.yamux.StreamID()
	s.conn.closeInbox(id, st.raw.in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[id] == st { // the peer may have used the number again
		delete(s.streams, id)
	}
	if st.opener {
		s.opened--
	}
	if len(s.streams) == 0 && s.idle != nil && !closed(s.idle) {
		close(s.idle)
	}
	s.growth -= st.grown()
}

func (s *Session) stream(id uint32) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// NumStreams is the number of streams that are not closed.
func (s *Session) NumStreams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// RTT is the smoothed round-trip time of the link, 0 while it is unknown.
func (s *Session) RTT() time.Duration { return time.Duration(s.link.rtt.Load()) }

// Probe asks the peer for a sign of life now. The session ends when none comes
// within a few seconds: a hint that the network changed is worth the question.
func (s *Session) Probe() { s.link.probe() }

// Away is closed when the peer takes no new streams on this session.
func (s *Session) Away() <-chan struct{} { return s.away }

// Move gives the server's requests to go over to a new connection at some
// moment within the time given.
func (s *Session) Move() <-chan time.Duration { return s.move }

// AskToMove asks the client to go over to a new connection within a time, of
// which it takes a random moment. Nothing is lost by it.
func (s *Session) AskToMove(within time.Duration) {
	s.control.send(controlFrame{typ: controlMove, value: milliseconds(within)})
}

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives. It wraps ErrLinkLost where the
// connection died, a *ClosedError where the peer said goodbye.
func (s *Session) Err() error {
	if !closed(s.done) {
		return nil
	}
	return s.link.cause()
}

// cause prefers the reason for the session's end to what yamux made of it.
func (s *Session) cause(err error) error {
	if cause := s.link.cause(); cause != nil {
		err = cause
	} else if !errors.Is(err, yamux.ErrSessionShutdown) { // yamux is before the link in ending, at times
		return err
	}
	return fmt.Errorf("%w: %w", ErrSessionLost, err)
}

// AskToLeave asks the peer to open no new streams, as Shutdown does, but takes
// those that come all the same: they may have crossed with it.
func (s *Session) AskToLeave() { s.control.send(controlFrame{typ: controlAway}) }

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
	s.control.send(controlFrame{typ: controlAway})
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
// written before arrives, within a few seconds; streams that are open are
// reset.
func (s *Session) CloseReason(code CloseCode, reason string) {
	s.link.finish(code, reason)
	s.Close()
}

// Close ends the session at once; its streams are reset. It returns when
// everything that the session started has ended.
func (s *Session) Close() error {
	s.link.Close()
	s.endStreams()
	s.yamux.Close()
	s.wg.Wait()
	s.link.wait()
	return nil
}
