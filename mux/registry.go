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

// ErrRefusedResumption is wrapped by the error of Serve when somebody asked
// for a session without the right to it. The session is unharmed.
var ErrRefusedResumption = errors.New("resumption refused")

// Registry is the memory of a server for sessions that may be resumed. The
// zero value is useful. Its methods are safe for concurrent use.
type Registry struct {
	// MaxWaiting bounds the memory of sessions that wait for their clients, in
	// bytes: what they have to send again, what their streams' readers have
	// not taken yet, 64 KiB for each, and 24 KiB for each stream. Over it the
	// one that has waited the longest ends. Default 256 MiB.
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
	waitingStreamCost = 24 << 10 // of each stream, and what serves it
)

// Serve answers a client's hello, and takes conn over, also when it fails. It
// resumes the session that the hello names, or, if admit agrees, starts a new
// one; admit's error is told to the client. Only who has the same owner's name
// can resume a session. A nil Registry starts sessions that end with their
// connections; a nil admit always agrees.
func (r *Registry) Serve(ctx context.Context, conn *ws.Conn, owner string, admit func() error, config *Config) (s *Session, resumed bool, err error) {
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
			s.neverBegan()
			err = errLinkClosed
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

// serve exchanges the hellos. A new session has still to begin.
func (r *Registry) serve(ctx context.Context, conn *ws.Conn, owner string, admit func() error, cfg Config) (*Session, bool, error) {
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
		s.registry, s.key, s.owner = r, own.key, owner
		r.add(s) // before the client can know of it
	}
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		s.neverBegan()
		return nil, false, err
	}
	return s, false, nil
}

// neverBegan takes back what add has done.
func (s *Session) neverBegan() {
	if s.registry != nil {
		s.registry.remove(s)
		<-s.resuming
	}
}

func newSessionKey() *sessionKey {
	k := new(sessionKey)
	rand.Read(k.id[:])
	rand.Read(k.secret[:])
	return k
}

// resume gives nil when there is no such session.
func (r *Registry) resume(ctx context.Context, conn *ws.Conn, owner string, ask *resumption) (*Session, error) {
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

// takeOver puts the session on conn, if ask is right. It gives nil when the
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
	received, start, err := s.link.fence(ask.received)
	if errors.Is(err, ErrProtocol) {
		return nil, fmt.Errorf("%w: %w", ErrRefusedResumption, err)
	}
	if err != nil {
		return nil, nil
	}
	own := s.cfg.hello()
	own.resumed = &resumed{received, start}
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		if s.link.unattached(err) {
			s.wentDown(err)
		}
		return nil, err
	}
	if err := s.link.attach(conn); err != nil {
		return nil, err
	}
	return s, nil
}

// add makes a session resumable that has still to begin. Until then nobody
// else gets at it.
func (r *Registry) add(s *Session) {
	s.resuming <- struct{}{}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions == nil {
		r.sessions = make(map[sessionID]*Session)
	}
	r.sessions[s.key.id] = s
}

// remove forgets a session that has ended.
func (r *Registry) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.key.id)
	r.unlistLocked(s)
}

// review notes whether a session waits for its client now, and what it holds.
// Others that have waited longer end where that is too much. It is called after
// each change, and trusts only what it sees: calls may overtake each other.
func (r *Registry) review(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlistLocked(s)
	bytes, waits := s.link.footprint()
	if !waits || r.sessions[s.key.id] != s {
		return
	}
	w := &waiting{s, bytes + s.conn.unread.Load() + waitingCost + int64(s.NumStreams())*waitingStreamCost}
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
