package server

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"time"

	"adit/auth"
	"adit/mux"
	"adit/tunnel/ws"
)

// serveTunnel takes an authenticated request: for a new session, or for one
// that goes on over this connection. The handler returns; the session goes on.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, who caller) {
	identity, client := who.identity, s.clientAddr(r)
	release, reason := s.reserve(s.joining, identity)
	if reason != "" {
		s.counters.sessionsRefused.Add(refusalName(reason))
		s.logRefused(client, identity.Name, reason)
		w.Header().Set("Retry-After", "30")
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	conn, err := ws.Accept(w, r, &ws.AcceptOptions{
		Conn:    ws.Options{LatestPongOnly: true},
		Timeout: s.cfg.HandshakeTimeout,
	})
	if err != nil {
		release()
		s.counters.handshakes.Add("upgrade")
		s.logRefused(client, identity.Name, err)
		return
	}
	admit(r.Context())
	go func() {
		defer release()
		s.join(conn, who, client)
	}()
}

// reserve adds one to a user's count, which Shutdown then waits for, and gives
// what takes it back, or the reason why there may not be one more.
func (s *Server) reserve(count map[string]int, identity *auth.Identity) (release func(), reason string) {
	limit := identity.MaxSessions
	if limit == 0 {
		limit = s.cfg.MaxSessionsPerUser
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, reasonStopping
	}
	if count[identity.Name] >= limit {
		return nil, reasonSessions
	}
	count[identity.Name]++
	s.wg.Add(1)
	return func() {
		defer s.wg.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		if count[identity.Name]--; count[identity.Name] == 0 {
			delete(count, identity.Name)
		}
	}, ""
}

// join gives a connection to the session that its client names, or to a new
// one. Only then it is known whether that counts as one more.
func (s *Server) join(conn *ws.Conn, who caller, client netip.AddrPort) {
	identity, addr := who.identity, addrText(client)
	x := &session{id: newSessionID(), user: identity.Name, proof: who.proof}
	x.identity.Store(identity)
	x.addr.Store(&addr)
	x.log = s.log.With("session", x.id, "user", userName(x.user))
	x.age = time.AfterFunc(time.Hour, func() {
		if x.mux.Stats().Connected { // else the next connection has an age of its own
			x.mux.RequestMigration(0)
		}
	})
	x.age.Stop()
	cfg := s.muxConfig()
	cfg.OnDown = x.down
	var leave func()
	var reason string // why there may not be one more session
	m, resumed, err := s.resumable.Serve(s.ctx, conn, identity.Name, func() error {
		if leave, reason = s.reserve(s.perUser, identity); reason != "" {
			return errors.New(reason)
		}
		return nil
	}, cfg)
	if err != nil {
		if reason != "" {
			err = errors.New(reason)
			s.counters.sessionsRefused.Add(refusalName(reason))
		} else {
			s.counters.handshakes.Add("session")
		}
		if leave != nil {
			leave()
		}
		s.logRefused(client, identity.Name, err)
		return
	}
	if resumed {
		if x = s.resumedSession(m, who.proof); x == nil { // it has just ended
			return
		}
		x.addr.Store(&addr)
		x.back(m.Stats().Last)
	} else {
		x.mux = m
	}
	if age := s.cfg.MaxConnectionAge; age > 0 {
		x.age.Reset(age - rand.N(age/10+1))
	}
	if !resumed {
		go func() {
			defer leave()
			s.runSession(x)
		}()
	}
}

// resumedSession finds the session that goes on, from now on by the credential of
// its new connection.
func (s *Server) resumedSession(m *mux.Session, proof auth.Proof) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		if x.mux == m {
			x.proof = proof
			s.review(x, s.access.Load()) // SetAccess may have come between
			return x
		}
	}
	return nil
}
