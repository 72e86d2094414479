package server

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"adit/auth"
	"adit/internal/metrics"
	"adit/mux"
)

// sessions are the sessions of a server, and the connections that are about to
// start or resume one.
type sessions struct {
	core *core

	// Guarded by mu.
	mu       sync.Mutex
	live     map[*session]struct{}
	perUser  map[string]int             // sessions
	joining  map[string]int             // connections that are about to start or resume a session
	past     map[string]metrics.Traffic // of ended sessions, by user
	early    map[*mux.Session]joined    // resumptions of sessions that are not in live yet
	stopping bool

	wg sync.WaitGroup // sessions and joining connections, from their reservation on
}

func newSessions(c *core) *sessions {
	return &sessions{
		core:    c,
		live:    make(map[*session]struct{}),
		perUser: make(map[string]int),
		joining: make(map[string]int),
		past:    make(map[string]metrics.Traffic),
		early:   make(map[*mux.Session]joined),
	}
}

// joined is what a connection that resumes a session brings along.
type joined struct {
	proof auth.Proof // of the credential that it presented
	addr  string     // of the client
}

// reservation is one of the sessions or connections that a user may have.
type reservation struct {
	leave func() // stops counting it; may be called more than once
	wg    *sync.WaitGroup
}

// release is called when the session or the connection has ended.
func (r *reservation) release() {
	r.leave()
	r.wg.Done()
}

// reserveConn reserves the right to start or resume a session, or returns the
// reason why there may not be one more connection. stop waits for the release.
func (s *sessions) reserveConn(identity *auth.Identity) (r *reservation, reason string) {
	return s.reserve(s.joining, identity, "connections that start or resume a session")
}

// reserveSession is reserveConn for the session itself.
func (s *sessions) reserveSession(identity *auth.Identity) (r *reservation, reason string) {
	return s.reserve(s.perUser, identity, "sessions")
}

func (s *sessions) reserve(count map[string]int, identity *auth.Identity, what string) (r *reservation, reason string) {
	limit := identity.MaxSessions
	if limit == 0 {
		limit = s.core.cfg.MaxSessionsPerUser
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, reasonStopping
	}
	if count[identity.Name] >= limit {
		if identity.Name == "" {
			return nil, fmt.Sprintf("anonymous clients have %d %s already, the most that they may have together", limit, what)
		}
		return nil, fmt.Sprintf("this user has %d %s already, as many as the user's max-sessions allows", limit, what)
	}
	count[identity.Name]++
	s.wg.Add(1)
	return &reservation{sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if count[identity.Name]--; count[identity.Name] == 0 {
			delete(count, identity.Name)
		}
	}), &s.wg}, ""
}

// leave stops counting a user's session that has just been ended. If it has only
// started and is not in the table yet, leave waits until it is or until its
// connection has released it, for at most a second.
func (s *sessions) leave(m *mux.Session, user string) {
	before := -1
	for range 200 {
		s.mu.Lock()
		x, n := s.findLocked(m), s.perUser[user]
		s.mu.Unlock()
		switch {
		case x != nil:
			x.place.leave()
			return
		case n < before:
			return
		}
		before = n
		time.Sleep(5 * time.Millisecond)
	}
}

// add adds a session that starts, and judges it by the present Access, which may
// have changed since its client authenticated. A session that starts while the
// server stops is closed.
func (s *sessions) add(x *session) {
	s.mu.Lock()
	s.live[x] = struct{}{}
	if j, ok := s.early[x.mux]; ok {
		delete(s.early, x.mux)
		x.join(j)
	}
	s.reviewLocked(x, s.core.access.Load())
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		x.mux.CloseReason(mux.CloseAway, reasonStopping)
	}
}

// resumed finds the session that was resumed, which from now on depends on the
// credential of its new connection. It returns nil if the session has just ended,
// or is not in the table yet: add then follows up.
func (s *sessions) resumed(m *mux.Session, j joined) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.findLocked(m)
	if x == nil {
		select {
		case <-m.Done(): // it may have been removed already
		default:
			s.early[m] = j
		}
		return nil
	}
	x.join(j)
	s.reviewLocked(x, s.core.access.Load()) // it may have changed since the client authenticated
	return x
}

func (s *sessions) findLocked(m *mux.Session) *session {
	for x := range s.live {
		if x.mux == m {
			return x
		}
	}
	return nil
}

// remove removes a session that has ended, and keeps its counts.
func (s *sessions) remove(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, x)
	user := userName(x.user)
	past := s.past[user]
	past.Add(x.link())
	s.past[user] = past
	s.core.counters.sessionsEnded.Add(endName(x.mux.Err(), x.identity.Load().Policy == nil, s.stopping))
}

// review applies an Access to all sessions.
func (s *sessions) review(a *access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.live {
		s.reviewLocked(x, a)
	}
}

func (s *sessions) reviewLocked(x *session, a *access) {
	identity := a.anonymous
	if x.user != "" {
		identity = a.users.Proved(x.user, x.proof)
	}
	if identity != nil {
		x.identity.Store(identity)
		return
	}
	// It may reach nothing more while it ends.
	x.identity.Store(&auth.Identity{Name: x.user})
	x.cancel()
	reason := "this user may no longer use the server"
	if a.users.Lookup(x.user) != nil {
		reason = "this user's credentials have changed"
	}
	s.wg.Go(func() { x.mux.CloseReason(mux.CloseRevoked, reason) })
}

// requestMigration asks all clients to migrate to new connections, each at a random
// moment within a time.
func (s *sessions) requestMigration(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.live {
		x.mux.RequestMigration(within)
	}
}

// some returns up to n sessions, different ones each time. A negative n is all.
func (s *sessions) some(n int) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.someLocked(n)
}

func (s *sessions) someLocked(n int) []*session {
	var some []*session
	for x := range s.live {
		if len(some) == n {
			break
		}
		some = append(some, x)
	}
	return some
}

// traffic returns all sessions and the traffic of the ended ones, by user, at
// the same moment.
func (s *sessions) traffic() ([]*session, map[string]metrics.Traffic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.someLocked(-1), maps.Clone(s.past)
}

// stop refuses further sessions and returns those that there are.
func (s *sessions) stop() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	return s.someLocked(-1)
}
