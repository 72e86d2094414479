package mux

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/yamux"

	"adit/mux/link"
)

// Open starts a stream to a target on the peer's side and returns without
// waiting for the result: data may be written at once, and the first Read, or
// Result, says how it went. The caller owns the stream and must Close it.
func (s *Session) Open(ctx context.Context, t Target) (*Stream, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if err := s.reserveOpening(t.Kind); err != nil {
		return nil, err
	}
	defer s.releaseOpening()
	if err := s.link.WaitRoom(ctx.Done()); errors.Is(err, link.ErrCanceled) {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, s.cause(err)
	}
	return s.open(ctx, t)
}

// reserveOpening counts a stream that is about to be opened, or returns why it may
// not be. releaseOpening must follow if there is no error.
func (s *Session) reserveOpening(k Kind) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.idle != nil || s.peerAway || s.lastID >= lastStreamID:
		return &RefusedError{GoingAway, "the session takes no new streams"}
	case !s.peer.understands(k):
		return &RefusedError{Unsupported, "the other end does not know this kind of target: upgrade it"}
	case int64(s.opened+s.opening) >= int64(s.peer.maxStreams):
		return &RefusedError{Busy, fmt.Sprintf("the other end takes %d streams at once", s.peer.maxStreams)}
	}
	s.opening++
	return nil
}

func (s *Session) releaseOpening() {
	s.mu.Lock()
	s.opening--
	s.mu.Unlock()
}

func (s *Session) open(ctx context.Context, t Target) (*Stream, error) {
	// yamux takes no context. It blocks only if the peer leaves streamBacklog openings
	// unacknowledged, which no honest one does; opening bounds the goroutines in it.
	ys, err := s.yamux.OpenStream()
	if err != nil {
		return nil, s.cause(err)
	}
	st := s.addStream(ys, true)
	st.target = t
	defer context.AfterFunc(ctx, func() { st.Reset(Cancelled) })()
	if err := st.writeRaw(appendOpen(make([]byte, yamuxHeader), t)); err != nil {
		st.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
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
		st := s.addStream(ys, false)
		s.mu.Lock()
		away, count := s.idle != nil, len(s.streams)-s.opened
		s.mu.Unlock()
		switch {
		case s.yamux.NumStreams() > s.maxHalfClosed():
			s.link.Fail(link.ProtocolError("too many streams are left half closed"))
			st.Close()
		case away:
			s.refuse(st, GoingAway, "the server is stopping")
		case count > s.cfg.MaxStreams:
			s.refuse(st, Busy, fmt.Sprintf("this session has %d streams already", s.cfg.MaxStreams))
		case st.overLimit:
			s.refuse(st, Busy, "this user's connections, or all together, may hold no more data: see tunnel.user-stream-memory and tunnel.stream-memory of the server")
		default:
			return st, nil
		}
	}
}

// maxHalfClosed bounds the streams that yamux has, which includes those that are
// closed here and not by the peer. A peer that keeps within MaxStreams and closes
// what has ended stays well below it.
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

// addStream makes the stream on ys and registers it.
func (s *Session) addStream(ys *yamux.Stream, opener bool) *Stream {
	id := ys.StreamID()
	st := s.newStream(ys, s, opener, s.peer.credit)
	s.mu.Lock()
	lost := s.closing
	var early *ResetError
	for _, r := range s.early {
		if r.stream == id {
			early = &ResetError{Code: r.code, Remote: true}
		}
	}
	s.streams[id] = st
	recycle := id >= s.recycleID && s.lastID < s.recycleID
	s.lastID = max(s.lastID, id)
	if opener {
		s.opened++
	}
	s.mu.Unlock()
	if recycle {
		s.recycle(opener)
	}
	switch {
	case lost:
		st.end(s.cause(nil), endLost)
	case early != nil:
		st.end(early, endRemote)
	}
	return st
}

// recycle makes the client replace the session by another before yamux's stream ids,
// which are never reused, run out: this side's own streams go on being opened until
// then.
func (s *Session) recycle(opener bool) {
	if opener {
		s.goAway.Do(func() { close(s.goingAway) })
	} else {
		s.SendGoingAway()
	}
}

// removeStream is called once for each stream, when it is closed.
func (s *Session) removeStream(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.id()] == st { // the peer may have used the id again
		delete(s.streams, st.id())
	}
	if st.opener {
		s.opened--
	}
	if len(s.streams) == 0 && s.idle != nil && !closed(s.idle) {
		close(s.idle)
	}
}

func (s *Session) stream(id uint32) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// earlyReset is a reset of a stream that is not known here: either no more, or
// not yet, because the stream waits to be accepted and the control stream
// overtook it.
type earlyReset struct {
	stream uint32
	code   Code
}

// resetByPeer ends a stream that the peer has reset.
func (s *Session) resetByPeer(id uint32, code Code) {
	s.mu.Lock()
	st := s.streams[id]
	if st == nil {
		s.early[s.nextEarly] = earlyReset{id, code}
		s.nextEarly = (s.nextEarly + 1) % len(s.early)
	}
	s.mu.Unlock()
	if st != nil {
		st.end(&ResetError{Code: code, Remote: true}, endRemote)
	}
}
