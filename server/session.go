package server

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/internal/metrics"
	"adit/mux"
)

// session is one client's session.
type session struct {
	mux    *mux.Session
	place  *reservation
	ctx    context.Context // of the streams
	cancel context.CancelFunc
	id     string // for the log and the audit records
	user   string // the identity's name; "" is anonymous
	opened time.Time
	age    *time.Timer // asks the client to migrate
	log    *slog.Logger

	streams  metrics.Streams // that are connected to their targets
	identity atomic.Pointer[auth.Identity]
	addr     atomic.Pointer[string]

	proof auth.Proof // of the credential of its last connection; guarded by sessions.mu
}

// newSession returns a session without its mux.Session, which the caller sets.
func newSession(log *slog.Logger, identity *auth.Identity, proof auth.Proof, addr string) *session {
	x := &session{id: newSessionID(), user: identity.Name, proof: proof}
	x.identity.Store(identity)
	x.addr.Store(&addr)
	x.log = log.With("session", x.id, "user", userName(x.user))
	x.age = time.AfterFunc(time.Hour, func() {
		if x.mux.Stats().Connected { // otherwise the next connection has an age of its own
			x.mux.RequestMigration(0)
		}
	})
	x.age.Stop()
	return x
}

// join notes what the connection brings along that has resumed the session.
// sessions.mu is held.
func (x *session) join(j joined) {
	x.proof = j.proof
	x.addr.Store(&j.addr)
}

// currentAddr is the client's address, for the log and the audit records. It may
// change with each resumption.
func (x *session) currentAddr() string { return *x.addr.Load() }

// limitAge has the client asked to migrate when its connection has nearly
// reached an age. 0: no limit.
func (x *session) limitAge(age time.Duration) {
	if age > 0 {
		x.age.Reset(age - rand.N(age/10+1))
	}
}

// linkLost logs that the session has lost its connection. It may be called after
// the session has been resumed.
func (x *session) linkLost(cause error) {
	x.log.Info("link lost", "addr", x.currentAddr(), "reason", cause)
}

// linkResumed logs that the session continues over another connection. A
// migration is routine.
func (x *session) linkResumed(r mux.Resumption) {
	if r.Down == 0 {
		x.log.Debug("link migrated", "addr", x.currentAddr(), "replayed", r.Replayed)
	} else {
		x.log.Info("link resumed", "addr", x.currentAddr(), "down", r.Down.Round(time.Millisecond), "replayed", r.Replayed)
	}
}

// link returns the state and the traffic of the session's link. Its address is
// the client's, also where a proxy is between.
func (x *session) link() metrics.Link {
	link := metrics.LinkOf(x.mux.Stats())
	link.Address = x.currentAddr()
	return link
}

// endReason returns why a session ended, for the log.
func endReason(err error) string {
	var closed *mux.ClosedError
	if errors.As(err, &closed) && closed.Reason == "" {
		return "the client is done"
	}
	return err.Error()
}

// userName returns the form of a user's name for the log and the status.
func userName(name string) string {
	if name == "" {
		return "(anonymous)"
	}
	return name
}
