package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"adit/mux"
)

// attempts runs the connector's attempts to connect, one at a time, and plans
// the next one. It belongs to the connector's goroutine.
type attempts struct {
	results chan attemptResult // one for each attempt; pass it to finish
	retry   *time.Timer        // fires when the next attempt is due
	pauses  backoff

	// Of the present or last attempt.
	cancel  context.CancelFunc // nil if no attempt is under way
	session *mux.Session       // the session that it is for, or nil
	repeat  bool               // if it fails, start the next at once
	started time.Time
}

// attemptResult is the result of an attempt to connect: the session that it was
// for on a new connection, a new session, or an error.
type attemptResult struct {
	session *mux.Session
	server  string // the session's, or the one tried last
	err     error
	probe   bool // the attempt was probePreferred
}

func newAttempts(backoffMin time.Duration) attempts {
	return attempts{results: make(chan attemptResult, 1), retry: stoppedTimer(), pauses: newBackoff(backoffMin)}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (a *attempts) running() bool { return a.cancel != nil }

// start runs connect for session in a goroutine of its own. No attempt may be
// under way.
func (a *attempts) start(ctx context.Context, connect attemptFunc, session *mux.Session, server string) {
	ctx, a.cancel = context.WithCancel(ctx)
	a.session, a.repeat, a.started = session, false, time.Now()
	a.retry.Stop()
	go func() { a.results <- connect(ctx, session, server) }()
}

// finish marks the attempt as over whose result has been received.
func (a *attempts) finish() {
	a.cancel()
	a.cancel = nil
}

// schedule plans the next attempt after a pause, which it returns. limit bounds
// the pause after that.
func (a *attempts) schedule(limit time.Duration) time.Duration {
	wait := a.pauses.pause(limit)
	a.retry.Reset(wait)
	return wait
}

// attemptFunc makes an attempt to connect: reconnect, migrate or probePreferred.
// session may be nil; server is its server, or the one tried last.
type attemptFunc func(ctx context.Context, session *mux.Session, server string) attemptResult

// reconnect makes a session if session is nil, and else resumes session. If that
// fails it makes a new session with one of the other servers.
func (d *sessionDialer) reconnect(ctx context.Context, session *mux.Session, server string) attemptResult {
	if session == nil {
		session, server, err := d.connect(ctx, d.order(server))
		return attemptResult{session: session, server: server, err: err}
	}
	next, err := d.resume(ctx, session, server)
	if err == nil {
		return attemptResult{session: next, server: server}
	}
	var others []string
	if ctx.Err() == nil && !errors.Is(err, mux.ErrNotResumable) {
		others = slices.DeleteFunc(d.order(""), func(s string) bool { return s == server })
	}
	next, other, err := d.connect(ctx, others, err)
	if err != nil {
		return attemptResult{server: server, err: err}
	}
	return attemptResult{session: next, server: other}
}

// migrate puts session, which has a connection, on another one to the same
// server. If session is not resumable it makes a new session there.
func (d *sessionDialer) migrate(ctx context.Context, session *mux.Session, server string) attemptResult {
	var next *mux.Session
	var err error
	if session.Resumable() {
		next, err = d.resume(ctx, session, server)
	} else {
		next, err = d.dial(ctx, server)
	}
	if err != nil {
		err = joinAttempts(err)
	}
	return attemptResult{session: next, server: server, err: err}
}

// probePreferred tries to make a session with a server that is configured before
// server.
func (d *sessionDialer) probePreferred(ctx context.Context, _ *mux.Session, server string) attemptResult {
	session, found, err := d.connect(ctx, d.servers[:max(slices.Index(d.servers, server), 0)])
	return attemptResult{session: session, server: found, err: err, probe: true}
}
