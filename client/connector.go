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
	// ackInterval is how often the connector checks that sent data is acknowledged.
	ackInterval = 500 * time.Millisecond
	// ackTimeoutMin and ackTimeoutMax bound the time without an acknowledgement,
	// otherwise four round trips, after which a new connection is tried.
	ackTimeoutMin, ackTimeoutMax = 3 * time.Second, 5 * time.Second
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

	session        *mux.Session // nil if there is none
	server         string       // the session's, or the one tried last
	connected      bool         // the session has a connection
	connectedAt    time.Time    // when it got that
	delivered      uint64       // bytes delivered to either end by then
	migrating      bool         // a migration to another connection is due or under way
	requested      time.Time    // when the last migration is due, or was, that the server asked for
	pending        bool         // that one is still to come
	left           time.Time    // when a server last went away
	acknowledged   uint64       // bytes, at the last check
	acknowledgedAt time.Time    // when that last grew, or nothing was unacknowledged
	lastFailure    error        // of the last attempt since the session had a connection; run's end publishes it

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
func (c *connector) run(ctx context.Context) error {
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.startAttempt()
	return c.watchAndLoop()
}

// runSession keeps session on a connection until ctx is done or session has
// ended. started is when the attempt that made session began.
func (c *connector) runSession(ctx context.Context, session *mux.Session, server string, started time.Time) {
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.single, c.attempts.started = true, started
	c.useSession(attemptResult{session: session, server: server})
	c.watchAndLoop()
}

func (c *connector) watchAndLoop() error {
	var watcher sync.WaitGroup
	watcher.Go(func() { c.network.watch(c.ctx, c.reconnect) })
	err := c.loop()
	c.stop()
	watcher.Wait()
	return err
}

// reconnect requests a new connection at once. Any goroutine may call it.
func (c *connector) reconnect() {
	select {
	case c.reconnectNow <- struct{}{}:
	default:
	}
}

func (c *connector) loop() error {
	acks := time.NewTicker(ackInterval)
	defer acks.Stop()
	for {
		var lost, ended, goingAway <-chan struct{}
		var migrate <-chan time.Duration
		if s := c.session; s != nil {
			ended, migrate = s.Done(), s.Migrations()
			// The only session has no successor: once it cannot be resumed, it
			// has nothing left to do about a server that is going away.
			if !c.single || s.Resumable() {
				goingAway = s.GoingAway()
			}
			if c.connected {
				lost = s.Down()
			}
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-c.pulse:
		case r := <-c.attempts.results:
			if err := c.handleResult(r); err != nil {
				return err
			}
		case <-lost:
			c.connectionLost()
		case <-ended:
			if c.sessionEnded(); c.single {
				return nil
			}
		case <-goingAway:
			c.leave()
		case within := <-migrate:
			c.migrationRequested(within)
		case <-c.reconnectNow:
			c.handleReconnect()
		case <-acks.C:
			c.checkAcknowledged()
		case <-c.migrate.C:
			c.pending = false
			if c.connected && !c.migrating {
				c.migrating = true
				c.restartAttempt()
			}
		case <-c.attempts.retry.C:
			c.startAttempt()
		case <-c.prefer.C:
			c.prefer.Reset(jitter(c.cfg.PreferInterval))
			if c.connected {
				c.startAttempt()
			}
		}
	}
}

// stop ends the attempt, the session and those that drain.
func (c *connector) stop() {
	if c.attempts.running() {
		c.attempts.cancel()
		if r := <-c.attempts.results; r.err == nil && r.session != c.session {
			r.session.CloseReason(mux.CloseDone, "")
		}
	}
	if c.session != nil {
		c.session.CloseReason(mux.CloseDone, "")
		c.announce(nil, State{Server: c.server, Err: context.Cause(c.ctx)})
	}
	c.cancel()
	c.draining.Wait()
}

// announce makes session, or none, the one for new streams.
func (c *connector) announce(session *mux.Session, state State) {
	c.current.set(session)
	c.onState(state)
}

// startAttempt starts the attempt that is due, if none is under way. It does
// nothing if the only session cannot be resumed.
func (c *connector) startAttempt() {
	if c.attempts.running() || c.single && !c.session.Resumable() {
		return
	}
	connect := c.sessions.reconnect
	switch {
	case c.single, c.connected && c.migrating:
		connect = c.sessions.migrate
	case c.connected:
		connect = c.sessions.probePreferred
	}
	c.attempts.start(c.ctx, connect, c.session, c.server)
}

// restartAttempt starts an attempt and cancels the one under way: in a network
// that is gone that would hang until its timeout.
func (c *connector) restartAttempt() {
	if c.attempts.running() {
		c.attempts.repeat = true
		c.attempts.cancel()
		return
	}
	c.startAttempt()
}

// handleResult handles the result of the attempt. It returns an error if the
// client has to exit.
func (c *connector) handleResult(r attemptResult) error {
	c.attempts.finish()
	switch {
	case r.err == nil && r.session == c.session:
		c.resumed()
	case r.err == nil && r.session == c.attempts.session:
		// That session drains now; the next one is still due.
		c.startAttempt()
	case r.err == nil && c.single:
		// The server has forgotten the only session, and made one that is not
		// wanted.
		c.draining.Go(func() { r.session.CloseReason(mux.CloseDone, "") })
	case r.err == nil:
		c.useSession(r)
	case c.attempts.repeat:
		c.startAttempt()
	case c.session != nil && closed(c.session.Done()):
		// sessionEnded will plan the next attempt.
	case r.probe:
		c.log.Debug("preferred servers unavailable", "error", r.err)
	default:
		return c.attemptFailed(r)
	}
	return nil
}

// attemptFailed reports the failure and plans the next attempt, or returns the
// refusal if the client has to exit.
func (c *connector) attemptFailed(r attemptResult) error {
	c.lastFailure = r.err
	refused := errors.Is(r.err, ErrRefused)
	if !c.connected {
		c.server = r.server
		c.onState(State{Server: r.server, Err: r.err})
		if refused && c.cfg.ExitOnRefusal {
			return r.err
		}
	}
	wait := c.scheduleRetry()
	args := []any{"error", r.err, "retry", wait.Round(time.Millisecond)}
	if hints := appendHints(nil, r.err); len(hints) > 0 {
		args = append(args, "hint", strings.Join(hints, "; "))
	}
	var by *refusedError
	switch {
	case errors.As(r.err, &by) && by.text == ErrRefused.Error():
		c.log.Error("refused by server", args...)
	case refused:
		c.log.Error("connect failed", args...)
	default:
		c.log.Warn("connect failed", args...)
	}
	return nil
}

// scheduleRetry starts the next attempt after a pause, which it returns.
func (c *connector) scheduleRetry() time.Duration {
	limit := c.cfg.BackoffMax
	if c.session != nil && !c.connected {
		limit = min(limit, resumeBackoffMax)
	}
	return c.attempts.schedule(limit)
}

// handleReconnect reconnects at once. If the session has a connection, it probes
// that too; the session migrates when the new connection is there.
func (c *connector) handleReconnect() {
	c.attempts.pauses.reset()
	if c.connected {
		c.session.Probe()
		if !c.session.Resumable() && !c.migrating {
			return
		}
		c.migrating = true
	}
	c.restartAttempt()
}

// useSession makes the new session of r the current one. The one before drains.
func (c *connector) useSession(r attemptResult) {
	if old, server := c.session, c.server; old != nil {
		if closed(old.Down()) && !old.Resumable() {
			c.sessionEnded()
		} else {
			c.log.Info("link replaced", "server", server, "streams", old.NumStreams())
			c.drain(old, server)
			if c.connected {
				c.announce(nil, State{Server: server, Err: errReplaced})
			}
		}
	}
	c.disconnected()
	c.session, c.server = r.session, r.server
	c.log.Info("link up", "server", c.server, "took", time.Since(c.attempts.started).Round(time.Millisecond))
	c.setConnected()
	c.prefer.Stop()
	if !c.single && !c.cfg.RandomServer && slices.Index(c.cfg.Servers, c.server) > 0 {
		c.prefer.Reset(jitter(c.cfg.PreferInterval))
	}
	c.announce(c.session, State{Up: true, Server: c.server})
}

// drain lets the streams of a session end that gets no new ones.
func (c *connector) drain(session *mux.Session, server string) {
	limit := min(c.cfg.BackoffMax, resumeBackoffMax)
	c.draining.Go(func() { c.sessions.drain(c.ctx, session, server, newBackoff(c.cfg.BackoffMin), limit) })
}

// resumed handles that the session is on a new connection. It may have had one
// until now.
func (c *connector) resumed() {
	last := c.session.Stats().Last
	if c.connected && last.Down == 0 {
		c.log.Info("link migrated", "server", c.server, "replayed", last.Replayed)
	} else {
		c.log.Info("link resumed", "server", c.server, "down", last.Down.Round(time.Millisecond), "replayed", last.Replayed)
	}
	wasConnected := c.connected
	c.setConnected()
	if !wasConnected {
		c.announce(c.session, State{Up: true, Server: c.server})
	}
}

func (c *connector) setConnected() {
	c.connected, c.connectedAt, c.migrating = true, time.Now(), false
	c.delivered, c.lastFailure = delivered(c.session), nil
	c.acknowledgedAt = time.Now()
	c.attempts.retry.Stop()
	if age := c.cfg.MaxConnectionAge; age > 0 {
		c.pending = false
		c.migrate.Reset(age - rand.N(age/10+1))
	}
}

func (c *connector) disconnected() {
	if c.connected && !c.migrating && c.attempts.running() {
		// A probe: it may hang, and reconnecting comes first.
		c.attempts.cancel()
	}
	c.connected, c.pending = false, false
	c.migrate.Stop()
}

// delivered returns how many bytes have been delivered to either end.
func delivered(session *mux.Session) uint64 {
	st := session.Stats()
	return st.Received + st.Sent - uint64(st.Unacknowledged)
}

// migrationRequested plans the migration that the server asks for. A server that
// asks again and again gets one for each MigrationInterval.
func (c *connector) migrationRequested(within time.Duration) {
	now := time.Now()
	if c.pending {
		c.sessions.counters.migrations.Add("deferred")
		return
	}
	due, result := now.Add(rand.N(within+1)), "accepted"
	if earliest := c.requested.Add(c.cfg.MigrationInterval); due.Before(earliest) {
		due, result = earliest, "deferred"
	}
	c.log.Info("migration requested", "server", c.server, "wait", due.Sub(now).Round(time.Millisecond))
	c.sessions.counters.migrations.Add(result)
	c.requested, c.pending = due, true
	c.migrate.Reset(due.Sub(now))
}

// checkAcknowledged migrates the session if nothing that it sent is acknowledged
// for some round trips: a middlebox may have dropped the connection silently. The
// present connection stays in use until the new one is there.
func (c *connector) checkAcknowledged() {
	if !c.connected || !c.session.Resumable() {
		return
	}
	st, now := c.session.Stats(), time.Now()
	if st.Unacknowledged == 0 || st.Acknowledged != c.acknowledged {
		c.acknowledged, c.acknowledgedAt = st.Acknowledged, now
		return
	}
	silent := now.Sub(c.acknowledgedAt)
	if c.migrating || silent < min(max(4*st.RTT, ackTimeoutMin), ackTimeoutMax) {
		return
	}
	c.acknowledgedAt = now
	c.log.Info("no acknowledgements, trying a new connection", "server", c.server, "after", silent.Round(time.Millisecond), "unacknowledged", st.Unacknowledged)
	c.migrating = true
	c.restartAttempt()
}

// connectionLost handles that the session has lost its connection.
func (c *connector) connectionLost() {
	c.disconnected()
	if !c.session.Resumable() || closed(c.session.Done()) {
		// sessionEnded follows.
		return
	}
	age := time.Since(c.connectedAt)
	reason := c.session.Stats().Lost
	c.sessions.suspectAddress(c.ctx, c.server, reason)
	c.log.Warn("link lost", "server", c.server, "after", age.Round(time.Millisecond), "reason", reason)
	c.announce(nil, State{Server: c.server, Err: reason})
	if age < usefulConnection && delivered(c.session) == c.delivered && !c.attempts.running() {
		c.scheduleRetry()
		return
	}
	c.attempts.pauses.reset()
	if c.migrating && c.attempts.running() {
		// The migration tried one server only.
		c.attempts.repeat = true
		return
	}
	c.restartAttempt()
}

// sessionEnded handles the end of the session.
func (c *connector) sessionEnded() {
	session := c.session
	c.session = nil
	c.disconnected()
	session.Close()
	c.linkDown(session.Err())
	c.scheduleSession()
}

// leave handles the server's going-away: the session's streams finish on the
// connection that they have, and a new session takes new streams. The only
// session finishes its stream.
func (c *connector) leave() {
	session, server := c.session, c.server
	// The server accepts no resumption any more.
	session.EndWithConnection()
	if c.single {
		return
	}
	c.session = nil
	c.disconnected()
	c.drain(session, server)
	c.linkDown(errGoingAway)
	if time.Since(c.left) > c.cfg.MigrationInterval {
		c.attempts.pauses.reset()
	}
	c.left = time.Now()
	c.scheduleSession()
}

func (c *connector) linkDown(reason error) {
	c.announce(nil, State{Server: c.server, Err: reason})
	c.log.Warn("link down", "server", c.server, "after", time.Since(c.connectedAt).Round(time.Millisecond), "reason", reason)
}

// scheduleSession plans the attempt to make the next session.
func (c *connector) scheduleSession() {
	c.migrating = false
	if time.Since(c.connectedAt) > stableSession {
		c.attempts.pauses.reset()
	}
	if c.attempts.running() {
		// If it succeeds, that is the next session.
		c.attempts.repeat = true
		return
	}
	c.scheduleRetry()
}
