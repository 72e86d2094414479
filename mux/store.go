package mux

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"adit/tunnel/ws"
)

// ErrRefusedResumption is wrapped by the error of Serve when a client asked for a
// session without the right to it. The session is unharmed.
var ErrRefusedResumption = errors.New("resumption refused")

// SessionStore keeps a server's sessions that may be resumed. The zero value is
// ready to use. Its methods are safe for concurrent use.
type SessionStore struct {
	// MaxDetached bounds the memory of detached sessions, those whose client is
	// absent, in bytes: what they have to send again, what their streams' readers
	// have not taken yet, 64 KiB for each session, and 24 KiB for each stream.
	// Above it the session that has been detached for the longest time ends.
	// Default 256 MiB.
	MaxDetached int64

	mu       sync.Mutex
	sessions map[sessionID]*Session
	detached list.List // of *detached, the longest first
	elements map[*Session]*list.Element
	bytes    int64 // of all detached sessions
	dropped  int
}

// detached is a session without a connection.
type detached struct {
	session *Session
	bytes   int64
}

const (
	defaultMaxDetached = 256 << 20
	detachedCost       = 64 << 10 // of a session by itself: goroutines, headers
	detachedStreamCost = 24 << 10 // of each stream, and what serves it
)

// Server is Client for the side that accepted the connection, and for sessions
// that end with it. SessionStore.Serve is for others.
func Server(ctx context.Context, conn *ws.Conn, cfg *Config) (*Session, error) {
	s, _, err := (*SessionStore)(nil).Serve(ctx, conn, "", nil, cfg)
	return s, err
}

// Serve answers a client's hello, and takes conn over, also when it fails. It
// resumes the session that the hello names, or, if admit agrees, starts a new
// one; admit's error is told to the client. Only a client with the same owner's
// name can resume a session. A nil SessionStore starts sessions that end with
// their connections; a nil admit always agrees.
func (r *SessionStore) Serve(ctx context.Context, conn *ws.Conn, owner string, admit func() error, config *Config) (s *Session, resumed bool, err error) {
	cfg := config.withDefaults()
	handshake, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(handshake, func() { conn.CloseNow() })
	defer stop()
	s, resumed, err = r.serve(handshake, conn, owner, admit, cfg)
	if err == nil && !resumed {
		if stop() {
			err = s.begin(ctx, conn, s.cfg.ResumeTimeout, false)
		} else {
			s.releaseStore()
			err = errHandshakeOver
		}
	}
	if err != nil {
		conn.CloseNow()
		if handshake.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(handshake), err)
		}
		return nil, false, fmt.Errorf("session handshake: %w", err)
	}
	return s, resumed, nil
}

var errHandshakeOver = errors.New("the connection was closed meanwhile")

// serve exchanges the hellos. A new session has still to begin.
func (r *SessionStore) serve(ctx context.Context, conn *ws.Conn, owner string, admit func() error, cfg Config) (*Session, bool, error) {
	peer, err := readHello(conn, false)
	if err != nil {
		return nil, false, err
	}
	if peer.resume != nil && r != nil {
		s, err := r.resume(ctx, conn, owner, peer.resume)
		if s != nil || err != nil {
			return s, s != nil, err
		}
	}
	if admit != nil {
		if err := admit(); err != nil {
			refuse(conn, CloseLimit, err.Error())
			return nil, false, err
		}
	}
	own := cfg.hello()
	if own.hold = min(own.hold, peer.hold); r == nil {
		own.hold = 0
	}
	cfg.ResumeTimeout = time.Duration(own.hold) * time.Millisecond
	s := newSession(cfg, peer)
	if own.hold > 0 {
		own.key = newSessionKey()
		s.store, s.key, s.owner = r, own.key, owner
		r.add(s) // before the client can know of it
	}
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		s.releaseStore()
		return nil, false, err
	}
	return s, false, nil
}

func newSessionKey() *sessionKey {
	k := new(sessionKey)
	rand.Read(k.id[:])
	rand.Read(k.secret[:])
	return k
}

// resume resumes the session that a client asks for. It returns nil if there is
// no such session.
func (r *SessionStore) resume(ctx context.Context, conn *ws.Conn, owner string, ask *resumption) (*Session, error) {
	r.mu.Lock()
	s := r.sessions[ask.id]
	r.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	s, err := s.takeOver(ctx, conn, owner, ask)
	if errors.Is(err, ErrRefusedResumption) {
		refuse(conn, CloseUnknown, "this session cannot be resumed")
	}
	return s, err
}

// takeOver puts the session on conn, if ask is right. It returns nil if the
// session has just ended.
func (s *Session) takeOver(ctx context.Context, conn *ws.Conn, owner string, ask *resumption) (*Session, error) {
	switch {
	case !s.key.verify(ask):
		return nil, fmt.Errorf("%w: the proof is wrong", ErrRefusedResumption)
	case s.owner != owner:
		return nil, fmt.Errorf("%w: it is another user's session", ErrRefusedResumption)
	}
	select { // one attempt at a time
	case s.resuming <- struct{}{}:
		defer func() { <-s.resuming }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.link == nil { // it has never begun
		return nil, nil
	}
	if ask.attempt <= s.attempt {
		return nil, fmt.Errorf("%w: the attempt has been made before", ErrRefusedResumption)
	}
	s.attempt = ask.attempt
	received, start, err := s.link.Detach(ask.received)
	if errors.Is(err, ErrProtocol) {
		return nil, fmt.Errorf("%w: %w", ErrRefusedResumption, err)
	}
	if err != nil {
		return nil, nil
	}
	own := s.cfg.hello()
	own.resumed = &resumed{received, start}
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		if s.link.AttachFailed(err) {
			s.onDown(err)
		}
		return nil, err
	}
	if err := s.link.Attach(conn); err != nil {
		return nil, err
	}
	return s, nil
}

// add makes a session resumable that has still to begin. It holds s.resuming
// until then, so that no client gets at it before.
func (r *SessionStore) add(s *Session) {
	s.resuming <- struct{}{}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions == nil {
		r.sessions = make(map[sessionID]*Session)
	}
	r.sessions[s.key.id] = s
}

// remove forgets a session that has ended.
func (r *SessionStore) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.key.id)
	r.unlistLocked(s)
}

// review notes whether a session is detached now, and what it holds. Sessions
// that have been detached for longer end if that is too much. It is called after
// each change and trusts only what it sees, because calls may overtake each
// other.
func (r *SessionStore) review(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlistLocked(s)
	st := s.Stats()
	if st.Connected || s.link.Err() != nil || r.sessions[s.key.id] != s {
		return
	}
	d := &detached{s, int64(st.SendBuffer) + s.adapter.memory.Load() + detachedCost + int64(st.Streams)*detachedStreamCost}
	if r.elements == nil {
		r.elements = make(map[*Session]*list.Element)
	}
	r.elements[s] = r.detached.PushBack(d)
	r.bytes += d.bytes
	limit := r.MaxDetached
	if limit <= 0 {
		limit = defaultMaxDetached
	}
	for r.bytes > limit {
		oldest := r.detached.Front().Value.(*detached).session
		r.unlistLocked(oldest)
		r.dropped++
		oldest.link.Fail(fmt.Errorf("%w, and too many detached sessions", ErrLinkLost))
	}
}

// EndOldest ends the session of an owner that has been detached for the longest
// time, and returns it. It returns nil if none of the owner's is detached.
func (r *SessionStore) EndOldest(owner string) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.detached.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*detached).session; s.owner == owner {
			r.unlistLocked(s)
			s.link.Fail(fmt.Errorf("%w, and a new session took its place", ErrLinkLost))
			return s
		}
	}
	return nil
}

func (r *SessionStore) unlistLocked(s *Session) {
	if e := r.elements[s]; e != nil {
		r.bytes -= r.detached.Remove(e).(*detached).bytes
		delete(r.elements, s)
	}
}

// Detached returns how many sessions are detached, the bytes that they hold, and
// how many were ever dropped for want of memory.
func (r *SessionStore) Detached() (sessions int, bytes int64, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.detached.Len(), r.bytes, r.dropped
}
