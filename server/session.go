package server

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/mux"
)

// session is one client's session.
type session struct {
	mux      *mux.Session
	ctx      context.Context // of the streams
	cancel   context.CancelFunc
	identity atomic.Pointer[auth.Identity]
	id       string     // for the log and the audit records
	user     string     // the identity's name; "" is anonymous
	proof    auth.Proof // of the credential of its last connection; guarded by Server.mu
	addr     atomic.Pointer[string]
	opened   time.Time
	age      *time.Timer // asks the client to move
	log      *slog.Logger
}

// currentAddr is where the client is, for the log and the audit records. It
// may be another address after each resumption.
func (x *session) currentAddr() string { return *x.addr.Load() }

// runSession serves a session to its end.
func (s *Server) runSession(x *session) {
	x.opened = time.Now()
	s.counters.sessions.Add(1)
	x.ctx, x.cancel = context.WithCancel(s.ctx)
	defer x.cancel()
	s.mu.Lock()
	s.sessions[x] = struct{}{}
	s.review(x, s.access.Load()) // SetAccess may have missed it
	stopping := s.stopping
	s.mu.Unlock()
	if stopping { // Shutdown may have missed it
		x.mux.CloseReason(mux.CloseAway, "the server is stopping")
	}
	x.log.Info("session opened", "addr", x.currentAddr())
	s.acceptStreams(x)
	x.age.Stop()
	x.mux.Close()
	s.forgetSession(x)
	x.log.Info("session closed", "addr", x.currentAddr(), "after", time.Since(x.opened).Round(time.Millisecond), "reason", endReason(x.mux.Err()))
}

// down notes that the client is gone, perhaps to come back. It may have done so
// when this is called.
func (x *session) down(cause error) {
	x.log.Info("link lost", "addr", x.currentAddr(), "reason", cause)
}

// back notes that the session goes on over another connection. A move is a
// matter of routine.
func (x *session) back(r mux.Resumption) {
	if r.Down == 0 {
		x.log.Debug("link migrated", "addr", x.currentAddr(), "replayed", r.Replayed)
	} else {
		x.log.Info("link resumed", "addr", x.currentAddr(), "down", r.Down.Round(time.Millisecond), "replayed", r.Replayed)
	}
}

// RequestMigration asks all clients to go over to new connections, each at some
// moment within a time. Their streams go on.
func (s *Server) RequestMigration(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		x.mux.RequestMigration(within)
	}
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
		identity = a.users.Proved(x.user, x.proof)
	}
	if identity != nil {
		x.identity.Store(identity)
		return
	}
	// May reach nothing more while the session ends.
	x.identity.Store(&auth.Identity{Name: x.user})
	x.cancel()
	reason := "this user may no longer use the server"
	if a.users.Lookup(x.user) != nil {
		reason = "this user's credentials have changed"
	}
	s.wg.Go(func() { x.mux.CloseReason(mux.CloseRevoked, reason) })
}

// userName is a user's name in the log.
func userName(name string) string {
	if name == "" {
		return "(anonymous)"
	}
	return name
}
