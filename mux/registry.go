package mux

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"adit/tunnel"
)

// ErrRefusedResumption is wrapped by the error of Serve when somebody asked
// for a session without the right to it. The session is unharmed.
var ErrRefusedResumption = errors.New("resumption refused")

// Registry is the memory of a server for sessions that may be resumed. The
// zero value is useful. Its methods are safe for concurrent use.
type Registry struct {
	// MaxWaiting bounds the memory of sessions that wait for their clients, in
	// bytes: what they have to send again, what their streams' readers have
	// not taken yet, and 64 KiB for each. Over it the one that has waited the
	// longest ends. Default 256 MiB.
	MaxWaiting int64

	mu       sync.Mutex
	sessions map[sessionID]*Session
	waiting  list.List // of *waiting, the longest first
	bytes    int64     // of them all
	dropped  int
}

// waiting is a session without a connection.
type waiting struct {
	session *Session
	bytes   int64
}

const (
	defaultMaxWaiting = 256 << 20
	waitingCost       = 64 << 10 // of a session by itself: goroutines, headers
)

// Serve answers a client's hello, and takes conn over, also when it fails. It
// resumes the session that the hello names, or, if admit agrees, starts a new
// one; admit's error is told to the client. Only who has the same owner's name
// can resume a session. A nil Registry starts sessions that end with their
// connections; a nil admit always agrees.
func (r *Registry) Serve(ctx context.Context, conn *tunnel.Conn, owner string, admit func() error, config *Config) (s *Session, resumed bool, err error) {
	cfg := config.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.CloseNow() })
	defer stop()
	s, resumed, err = r.serve(ctx, conn, owner, admit, cfg)
	if err != nil {
		conn.CloseNow()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, false, fmt.Errorf("session handshake: %w", err)
	}
	return s, resumed, nil
}

func (r *Registry) serve(ctx context.Context, conn *tunnel.Conn, owner string, admit func() error, cfg Config) (*Session, bool, error) {
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
	s := newSession(cfg, peer)
	if own.hold = min(own.hold, peer.hold); r != nil && own.hold > 0 {
		own.key = newSessionKey()
		s.registry, s.key, s.owner = r, own.key, owner
	} else {
		own.hold = 0
	}
	if err := conn.WriteMessage(tunnel.OpBinary, appendHello(nil, own)); err != nil {
		return nil, false, err
	}
	if err := s.begin(conn, time.Duration(own.hold)*time.Millisecond, false); err != nil {
		return nil, false, err
	}
	if s.registry != nil {
		r.add(s)
	}
	return s, false, nil
}

func newSessionKey() *sessionKey {
	k := new(sessionKey)
	rand.Read(k.id[:])
	rand.Read(k.secret[:])
	return k
}

// resume gives nil when there is no such session.
func (r *Registry) resume(ctx context.Context, conn *tunnel.Conn, owner string, ask *resumption) (*Session, error) {
	r.mu.Lock()
	s := r.sessions[ask.id]
	r.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	deny := func(why string) (*Session, error) {
		refuse(conn, CloseUnknown, "this session cannot be resumed")
		return nil, fmt.Errorf("%w: %s", ErrRefusedResumption, why)
	}
	switch {
	case !s.key.verify(ask):
		return deny("the proof is wrong")
	case s.owner != owner:
		return deny("it is another user's session")
	}
	select { // one attempt at a time
	case s.resuming <- struct{}{}:
		defer func() { <-s.resuming }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ask.attempt <= s.attempt {
		return deny("the attempt has been made before")
	}
	s.attempt = ask.attempt
	received, start, err := s.link.fence(ask.received)
	if errors.Is(err, ErrProtocol) {
		return deny(err.Error())
	}
	if err != nil { // the session has just ended
		return nil, nil
	}
	own := s.cfg.hello()
	own.resumed = &resumed{received, start}
	if err := conn.WriteMessage(tunnel.OpBinary, appendHello(nil, own)); err != nil {
		s.wentDown(err)
		return nil, err
	}
	if err := s.link.attach(conn); err != nil {
		return nil, err
	}
	return s, nil
}

// add makes a session resumable, unless it has ended already.
func (r *Registry) add(s *Session) {
	r.mu.Lock()
	if r.sessions == nil {
		r.sessions = make(map[sessionID]*Session)
	}
	if !s.yamux.IsClosed() {
		r.sessions[s.key.id] = s
	}
	r.mu.Unlock()
	r.list(s)
}

// remove forgets a session that has ended.
func (r *Registry) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.key.id)
	r.unlistLocked(s)
}

// list notes that a session waits for its client, if it still does, and what
// it holds. Others that have waited longer end where that is too much.
func (r *Registry) list(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes, waits := s.link.footprint()
	if !waits || r.sessions[s.key.id] != s {
		return
	}
	r.unlistLocked(s)
	w := &waiting{s, bytes + s.conn.unread.Load() + waitingCost}
	s.waiting = r.waiting.PushBack(w)
	r.bytes += w.bytes
	limit := r.MaxWaiting
	if limit <= 0 {
		limit = defaultMaxWaiting
	}
	for r.bytes > limit {
		oldest := r.waiting.Front().Value.(*waiting).session
		r.unlistLocked(oldest)
		r.dropped++
		oldest.link.fail(fmt.Errorf("%w, and too many sessions wait for their clients", ErrLinkLost))
	}
}

// unlist notes that a session has a connection again.
func (r *Registry) unlist(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlistLocked(s)
}

func (r *Registry) unlistLocked(s *Session) {
	if s.waiting != nil {
		r.bytes -= r.waiting.Remove(s.waiting).(*waiting).bytes
		s.waiting = nil
	}
}

// Waiting is how many sessions wait for their clients, what they hold in
// bytes, and how many have ever been dropped for want of memory.
func (r *Registry) Waiting() (sessions int, bytes int64, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting.Len(), r.bytes, r.dropped
}
