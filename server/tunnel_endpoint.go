package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"adit/auth"
	"adit/mux"
	"adit/tunnel/ws"
)

// tunnelEndpoint starts and resumes the sessions of authenticated clients.
type tunnelEndpoint struct {
	*core
	sessions *sessions
	store    mux.SessionStore // of detached sessions

	ctx    context.Context // of all sessions; ends when Shutdown no longer waits
	cancel context.CancelFunc
}

func newTunnelEndpoint(c *core) *tunnelEndpoint {
	t := &tunnelEndpoint{core: c, sessions: newSessions(c), store: mux.SessionStore{MaxDetached: c.cfg.ResumeMemory}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// serve answers an authenticated request: for a new session, or for one that
// continues over this connection. The session outlives the handler.
func (t *tunnelEndpoint) serve(w http.ResponseWriter, r *http.Request, who caller) {
	client := t.clientAddr(r)
	place, reason := t.sessions.reserveConn(who.identity)
	if reason != "" {
		t.counters.addSessionRefused(reason)
		t.logSessionRefused(client, who.identity.Name, reason)
		w.Header().Set("Retry-After", "30")
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	conn, err := ws.Accept(w, r, &ws.AcceptOptions{
		Conn:    ws.Options{LatestPongOnly: true},
		Timeout: t.cfg.HandshakeTimeout,
	})
	if err != nil {
		place.release()
		t.counters.handshakes.Add("upgrade")
		t.logSessionRefused(client, who.identity.Name, err)
		return
	}
	exempt(r.Context())
	go func() {
		defer place.release()
		t.join(conn, who, client)
	}()
}

// join attaches a connection to the session that its client names, or to a new
// one. Only the client's hello tells which, and so whether there is one session
// more.
func (t *tunnelEndpoint) join(conn *ws.Conn, who caller, client netip.AddrPort) {
	addr := addrText(client)
	x := newSession(t.log, who.identity, who.proof, addr)
	cfg := t.muxConfig(who.identity.Name)
	cfg.OnDown = x.linkLost
	var refused string // why there may not be one more session
	m, resumed, err := t.store.Serve(t.ctx, conn, who.identity.Name, func() error {
		if x.place, refused = t.reserve(who.identity); refused != "" {
			return errors.New(refused)
		}
		return nil
	}, cfg)
	switch {
	case refused != "":
		t.counters.addSessionRefused(refused)
		t.logSessionRefused(client, who.identity.Name, refused)
	case err != nil:
		if x.place != nil {
			x.place.release()
		}
		t.counters.handshakes.Add("session")
		t.logSessionRefused(client, who.identity.Name, err)
	case resumed:
		if x := t.sessions.resumed(m, joined{who.proof, addr}); x != nil {
			x.linkResumed(m.Stats().Last)
			x.limitAge(t.cfg.MaxConnectionAge)
		}
	default:
		x.mux = m
		x.limitAge(t.cfg.MaxConnectionAge)
		go func() {
			defer x.place.release()
			t.run(x)
		}()
	}
}

// reserve reserves one more session. At the limit the user's detached sessions give
// way, the one that has been detached for the longest time first: their clients may
// be gone for good. Anonymous clients are not one user and end nobody's session.
func (t *tunnelEndpoint) reserve(identity *auth.Identity) (place *reservation, refused string) {
	for {
		place, refused = t.sessions.reserveSession(identity)
		if refused == "" || refused == reasonStopping || identity.Name == "" {
			return place, refused
		}
		m := t.store.EndOldest(identity.Name)
		if m == nil {
			return nil, refused
		}
		t.sessions.leave(m, identity.Name)
	}
}

// run serves a session until it ends.
func (t *tunnelEndpoint) run(x *session) {
	x.opened = time.Now()
	t.counters.sessions.Add(1)
	x.ctx, x.cancel = context.WithCancel(t.ctx)
	defer x.cancel()
	t.sessions.add(x)
	x.log.Info("session opened", "addr", x.currentAddr())
	serveStreams(t.core, x)
	x.age.Stop()
	x.mux.Close()
	t.sessions.remove(x)
	x.log.Info("session closed", "addr", x.currentAddr(), "after", time.Since(x.opened).Round(time.Millisecond), "reason", endReason(x.mux.Err()))
}

// drain asks the client of a session to open no further streams, waits until its
// streams have ended or ctx is done, and closes the session. It reports whether
// streams were cut short.
func (t *tunnelEndpoint) drain(ctx context.Context, x *session) (cut bool) {
	x.mux.EndWithConnection() // there is no server left to resume it at
	x.mux.SendGoingAway()
	t.awaitLastStreams(ctx, x)
	return x.mux.Shutdown(ctx, mux.CloseAway, reasonStopping) != nil
}

// awaitLastStreams accepts, for LastRequestTimeout or half of the time that is
// left, the streams that a client opened before it learned that the server is
// going away. A client that has no streams closes its session, which ends the
// wait.
func (t *tunnelEndpoint) awaitLastStreams(ctx context.Context, x *session) {
	timeout := t.cfg.LastRequestTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-x.mux.Done():
	case <-ctx.Done():
	}
}
