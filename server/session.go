package server

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/mux"
	"adit/tunnel"
)

// session is one client's session.
type session struct {
	mux      *mux.Session
	ctx      context.Context // of the streams
	cancel   context.CancelFunc
	identity atomic.Pointer[auth.Identity]
	user     string // the identity's name; "" is anonymous
	addr     string
}

// serveTunnel turns an authenticated request into a session. The handler
// returns; the session goes on.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	release, reason := s.reserve(identity)
	if reason != "" {
		s.log.Warn("session refused", "user", userName(identity.Name), "addr", r.RemoteAddr, "reason", reason)
		w.Header().Set("Retry-After", "30")
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	conn, err := tunnel.Accept(w, r, &tunnel.AcceptOptions{
		ConnOptions: tunnel.ConnOptions{LatestPongOnly: true},
		Timeout:     s.cfg.HandshakeTimeout,
	})
	if err != nil {
		release()
		s.log.Warn("session refused", "user", userName(identity.Name), "addr", r.RemoteAddr, "reason", err)
		return
	}
	admit(r.Context())
	go func() {
		defer release()
		s.runSession(conn, identity)
	}()
}

// reserve counts one more session of a user, which Shutdown then waits for,
// and gives what takes it back, or the reason why there may not be one.
func (s *Server) reserve(identity *auth.Identity) (release func(), reason string) {
	limit := identity.MaxSessions
	if limit == 0 {
		limit = s.cfg.MaxSessionsPerUser
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, "the server is stopping"
	}
	if s.perUser[identity.Name] >= limit {
		return nil, "this user has too many sessions"
	}
	s.perUser[identity.Name]++
	s.wg.Add(1)
	return func() {
		defer s.wg.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.perUser[identity.Name]--; s.perUser[identity.Name] == 0 {
			delete(s.perUser, identity.Name)
		}
	}, ""
}

func (s *Server) runSession(conn *tunnel.Conn, identity *auth.Identity) {
	x := &session{user: identity.Name, addr: conn.RemoteAddr().String()}
	x.identity.Store(identity)
	log := s.log.With("user", userName(x.user), "addr", x.addr)
	m, err := mux.Server(s.ctx, conn, &s.cfg.Mux)
	if err != nil {
		log.Warn("session refused", "reason", err)
		return
	}
	x.mux = m
	x.ctx, x.cancel = context.WithCancel(s.ctx)
	defer x.cancel()
	s.mu.Lock()
	s.sessions[x] = struct{}{}
	s.review(x, s.access.Load()) // SetAccess may have missed it
	stopping := s.stopping
	s.mu.Unlock()
	if stopping { // Shutdown may have missed it
		m.CloseReason(mux.CloseAway, "the server is stopping")
	}
	log.Info("session opened")
	start := time.Now()
	s.acceptStreams(x)
	m.Close()
	s.mu.Lock()
	delete(s.sessions, x)
	s.mu.Unlock()
	log.Info("session closed", "after", time.Since(start).Round(time.Millisecond), "reason", endReason(m.Err()))
}

// endReason says why a session ended; most often the client went.
func endReason(err error) string {
	var closed *mux.ClosedError
	if errors.As(err, &closed) && closed.Reason == "" {
		return "the client is done"
	}
	return err.Error()
}

// review applies an Access to a session. s.mu is held.
func (s *Server) review(x *session, a *access) {
	identity := a.anonymous
	if x.user != "" {
		identity = a.users.Lookup(x.user)
	}
	if identity != nil {
		x.identity.Store(identity)
		return
	}
	// May reach nothing more while the session ends.
	x.identity.Store(&auth.Identity{Name: x.user})
	x.cancel()
	s.wg.Go(func() { x.mux.CloseReason(mux.CloseRevoked, "this user may no longer use the server") })
}

// userName is a user's name in the log.
func userName(name string) string {
	if name == "" {
		return "(anonymous)"
	}
	return name
}
