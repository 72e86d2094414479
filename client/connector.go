package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"adit/mux"
)

const (
	// resumeBackoffMax bounds the pause between attempts to resume a session.
	resumeBackoffMax = 5 * time.Second
	// stableSession is the age from which a session's end restarts the backoff.
	stableSession = 10 * time.Second
	// usefulConnection is the age from which the loss of a connection is followed
	// by an attempt to resume at once. Below it the pauses apply, unless the
	// connection has delivered a byte: each handshake would be wasted.
	usefulConnection = 100 * time.Millisecond
)

// connector is the client's reconnect loop. It keeps the session on a
// connection, makes a new session when one has ended, and migrates to another
// connection or server. It serves one run or runSession.
type connector struct {
	cfg      *Config
	sessions *sessionDialer
	current  *currentSession
	network  *networkWatcher
	onState  func(State)
	log      *slog.Logger

	reconnectNow chan struct{} // requests a reconnect; capacity 1
	pulse        chan struct{} // received from by loop, for Healthy

	// The fields below belong to the goroutine in loop, which never blocks.

	ctx    context.Context
	cancel context.CancelFunc
	single bool // serve the first session only and make no other
	// draining counts the goroutines of sessions that get no new streams.
	draining sync.WaitGroup

	session     *mux.Session // nil if there is none
	server      string       // the session's, or the one tried last
	connected   bool         // the session has a connection
	connectedAt time.Time    // when it got that
	delivered   uint64       // bytes delivered to either end by then
	migrating   bool         // a migration to another connection is due or under way

	attempts attempts
	migrate  *time.Timer // starts a migration
	prefer   *time.Timer // probes the preferred servers
}

func newConnector(cfg *Config, counters *counters, current *currentSession, onState func(State)) *connector {
	return &connector{
		cfg: cfg, current: current, onState: onState, log: cfg.Logger,
		sessions:     &sessionDialer{cfg.Servers, cfg.RandomServer, cfg.Dial, &cfg.Mux, counters},
		network:      newNetworkWatcher(cfg.WatchInterval, cfg.Logger),
		reconnectNow: make(chan struct{}, 1), pulse: make(chan struct{}),
		attempts: newAttempts(cfg.BackoffMin), migrate: stoppedTimer(), prefer: stoppedTimer(),
	}
}

// run keeps a session until ctx is done, and then returns nil. It returns a
// refusal under ExitOnRefusal. No session is left when it returns.
func (k *connector) run(ctx context.Context) error {
	k.ctx, k.cancel = context.WithCancel(ctx)
	k.startAttempt()
	return k.watchAndLoop()
}

// runSession keeps session on a connection until ctx is done or session has
// ended. started is when the attempt that made session began.
func (k *connector) runSession(ctx context.Context, session *mux.Session, server string, started time.Time) {
	k.ctx, k.cancel = context.WithCancel(ctx)
	k.single, k.attempts.started = true, started
	k.useSession(attemptResult{session: session, server: server})
	k.watchAndLoop()
}

func (k *connector) watchAndLoop() error {
	var watcher sync.WaitGroup
	watcher.Go(func() { k.network.watch(k.ctx, k.reconnect) })
	err := k.loop()
	k.stop()
	watcher.Wait()
	return err
}

// reconnect requests a new connection at once. Any goroutine may call it.
func (k *connector) reconnect() {
	select {
	case k.reconnectNow <- struct{}{}:
	default:
	}
}

func (k *connector) loop() error {
	for {
		var lost, ended, goingAway <-chan struct{}
		var migrate <-chan time.Duration
		if s := k.session; s != nil {
			ended, migrate = s.Done(), s.Migrations()
			// The only session has no successor: once it cannot be resumed, it
			// has nothing left to do about a server that is going away.
			if !k.single || s.Resumable() {
				goingAway = s.GoingAway()
			}
			if k.connected {
				lost = s.Down()
			}
		}
		select {
		case <-k.ctx.Done():
			return nil
		case <-k.pulse:
		case r := <-k.attempts.results:
			if err := k.handleResult(r); err != nil {
				return err
			}
		case <-lost:
			k.connectionLost()
		case <-ended:
			if k.sessionEnded(); k.single {
				return nil
			}
		case <-goingAway:
			k.leave()
		case within := <-migrate:
			k.log.Info("migration requested", "server", k.server)
			k.migrate.Reset(rand.N(within + 1))
		case <-k.reconnectNow:
			k.handleReconnect()
		case <-k.migrate.C:
			if k.connected && !k.migrating {
				k.migrating = true
				k.restartAttempt()
			}
		case <-k.attempts.retry.C:
			k.startAttempt()
		case <-k.prefer.C:
			k.prefer.Reset(jitter(k.cfg.PreferInterval))
			if k.connected {
				k.startAttempt()
			}
		}
	}
}

// stop ends the attempt, the session and those that drain.
func (k *connector) stop() {
	if k.attempts.running() {
		k.attempts.cancel()
		if r := <-k.attempts.results; r.err == nil && r.session != k.session {
			r.session.CloseReason(mux.CloseDone, "")
		}
	}
	if k.session != nil {
		k.session.CloseReason(mux.CloseDone, "")
		k.announce(nil, State{Server: k.server, Err: context.Cause(k.ctx)})
	}
	k.cancel()
	k.draining.Wait()
}

// announce makes session, or none, the one for new streams.
func (k *connector) announce(session *mux.Session, state State) {
	k.current.set(session)
	k.onState(state)
}

// startAttempt starts the attempt that is due, if none is under way. It does
// nothing if the only session cannot be resumed.
func (k *connector) startAttempt() {
	if k.attempts.running() || k.single && !k.session.Resumable() {
		return
	}
	connect := k.sessions.reconnect
	switch {
	case k.single, k.connected && k.migrating:
		connect = k.sessions.migrate
	case k.connected:
		connect = k.sessions.probePreferred
	}
	k.attempts.start(k.ctx, connect, k.session, k.server)
}

// restartAttempt starts an attempt and cancels the one under way: in a network
// that is gone that would hang until its timeout.
func (k *connector) restartAttempt() {
	if k.attempts.running() {
		k.attempts.repeat = true
		k.attempts.cancel()
		return
	}
	k.startAttempt()
}

// handleResult handles the result of the attempt. It returns an error if the
// client has to exit.
func (k *connector) handleResult(r attemptResult) error {
	k.attempts.finish()
	switch {
	case r.err == nil && r.session == k.session:
		k.resumed()
	case r.err == nil && r.session == k.attempts.session:
		// That session drains now; the next one is still due.
		k.startAttempt()
	case r.err == nil && k.single:
		// The server has forgotten the only session, and made one that is not
		// wanted.
		k.draining.Go(func() { r.session.CloseReason(mux.CloseDone, "") })
	case r.err == nil:
		k.useSession(r)
	case k.attempts.repeat:
		k.startAttempt()
	case k.session != nil && closed(k.session.Done()):
		// sessionEnded will plan the next attempt.
	case r.probe:
		k.log.Debug("preferred servers unavailable", "error", r.err)
	default:
		return k.attemptFailed(r)
	}
	return nil
}

// attemptFailed reports the failure and plans the next attempt, or returns the
// refusal if the client has to exit.
func (k *connector) attemptFailed(r attemptResult) error {
	refused := errors.Is(r.err, ErrRefused)
	if !k.connected {
		k.server = r.server
		k.onState(State{Server: r.server, Err: r.err})
		if refused && k.cfg.ExitOnRefusal {
			return r.err
		}
	}
	wait := k.scheduleRetry()
	args := []any{"error", r.err, "retry", wait.Round(time.Millisecond)}
	if hints := appendHints(nil, r.err); len(hints) > 0 {
		args = append(args, "hint", strings.Join(hints, "; "))
	}
	if refused {
		k.log.Error("refused by server", args...)
	} else {
		k.log.Warn("connect failed", args...)
	}
	return nil
}

// scheduleRetry starts the next attempt after a pause, which it returns.
func (k *connector) scheduleRetry() time.Duration {
	limit := k.cfg.BackoffMax
	if k.session != nil && !k.connected {
		limit = min(limit, resumeBackoffMax)
	}
	return k.attempts.schedule(limit)
}

// handleReconnect reconnects at once. If the session has a connection, it probes
// that too; the session migrates when the new connection is there.
func (k *connector) handleReconnect() {
	k.attempts.pauses.reset()
	if k.connected {
		k.session.Probe()
		if !k.session.Resumable() && !k.migrating {
			return
		}
		k.migrating = true
	}
	k.restartAttempt()
}

// useSession makes the new session of r the current one. The one before drains.
func (k *connector) useSession(r attemptResult) {
	if old, server := k.session, k.server; old != nil {
		if closed(old.Down()) && !old.Resumable() {
			k.sessionEnded()
		} else {
			k.log.Info("link replaced", "server", server, "streams", old.NumStreams())
			k.drain(old, server)
			if k.connected {
				k.announce(nil, State{Server: server, Err: errReplaced})
			}
		}
	}
	k.disconnected()
	k.session, k.server = r.session, r.server
	k.log.Info("link up", "server", k.server, "took", time.Since(k.attempts.started).Round(time.Millisecond))
	k.setConnected()
	k.prefer.Stop()
	if !k.single && !k.cfg.RandomServer && slices.Index(k.cfg.Servers, k.server) > 0 {
		k.prefer.Reset(jitter(k.cfg.PreferInterval))
	}
	k.announce(k.session, State{Up: true, Server: k.server})
}

// drain lets the streams of a session end that gets no new ones.
func (k *connector) drain(session *mux.Session, server string) {
	limit := min(k.cfg.BackoffMax, resumeBackoffMax)
	k.draining.Go(func() { k.sessions.drain(k.ctx, session, server, newBackoff(k.cfg.BackoffMin), limit) })
}

// resumed handles that the session is on a new connection. It may have had one
// until now.
func (k *connector) resumed() {
	last := k.session.Stats().Last
	if k.connected && last.Down == 0 {
		k.log.Info("link migrated", "server", k.server, "replayed", last.Replayed)
	} else {
		k.log.Info("link resumed", "server", k.server, "down", last.Down.Round(time.Millisecond), "replayed", last.Replayed)
	}
	wasConnected := k.connected
	k.setConnected()
	if !wasConnected {
		k.announce(k.session, State{Up: true, Server: k.server})
	}
}

func (k *connector) setConnected() {
	k.connected, k.connectedAt, k.migrating = true, time.Now(), false
	k.delivered = delivered(k.session)
	k.attempts.retry.Stop()
	if age := k.cfg.MaxConnectionAge; age > 0 {
		k.migrate.Reset(age - rand.N(age/10+1))
	}
}

func (k *connector) disconnected() {
	if k.connected && !k.migrating && k.attempts.running() {
		k.attempts.cancel() // A probe: it may hang, and reconnecting comes first.
	}
	k.connected = false
	k.migrate.Stop()
}

// delivered returns how many bytes have been delivered to either end.
func delivered(session *mux.Session) uint64 {
	st := session.Stats()
	return st.Received + st.Sent - uint64(st.Unacknowledged)
}

// connectionLost handles that the session has lost its connection.
func (k *connector) connectionLost() {
	k.disconnected()
	if !k.session.Resumable() || closed(k.session.Done()) {
		return // sessionEnded follows.
	}
	age := time.Since(k.connectedAt)
	reason := k.session.Stats().Lost
	k.log.Warn("link lost", "server", k.server, "after", age.Round(time.Millisecond), "reason", reason)
	k.announce(nil, State{Server: k.server, Err: reason})
	if age < usefulConnection && delivered(k.session) == k.delivered && !k.attempts.running() {
		k.scheduleRetry()
		return
	}
	k.attempts.pauses.reset()
	if k.migrating && k.attempts.running() {
		k.attempts.repeat = true // The migration tried one server only.
		return
	}
	k.restartAttempt()
}

// sessionEnded handles the end of the session.
func (k *connector) sessionEnded() {
	session := k.session
	k.session = nil
	k.disconnected()
	session.Close()
	k.linkDown(session.Err())
	k.scheduleSession()
}

// leave handles the server's going-away: the session's streams finish on the
// connection that they have, and a new session takes new streams. The only
// session finishes its stream.
func (k *connector) leave() {
	session, server := k.session, k.server
	session.EndWithConnection() // The server accepts no resumption any more.
	if k.single {
		return
	}
	k.session = nil
	k.disconnected()
	k.drain(session, server)
	k.linkDown(errGoingAway)
	if time.Since(k.connectedAt) > usefulConnection {
		k.attempts.pauses.reset()
	}
	k.scheduleSession()
}

func (k *connector) linkDown(reason error) {
	k.announce(nil, State{Server: k.server, Err: reason})
	k.log.Warn("link down", "server", k.server, "after", time.Since(k.connectedAt).Round(time.Millisecond), "reason", reason)
}

// scheduleSession plans the attempt to make the next session.
func (k *connector) scheduleSession() {
	k.migrating = false
	if time.Since(k.connectedAt) > stableSession {
		k.attempts.pauses.reset()
	}
	if k.attempts.running() {
		k.attempts.repeat = true // If it succeeds, that is the next session.
		return
	}
	k.scheduleRetry()
}
