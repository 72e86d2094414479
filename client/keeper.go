package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"adit/mux"
	"adit/tunnel"
)

const (
	// resumeBackoffMax bounds the pause between attempts to resume a session.
	resumeBackoffMax = 5 * time.Second
	// steadyAfter is how long a link must have lasted for the next attempt to
	// be immediate again, where it has to begin anew …
	steadyAfter = 10 * time.Second
	// … and where the session goes on. A connection that is lost sooner, and
	// before any byte has arrived by it, was not worth its handshake.
	worthAfter = 100 * time.Millisecond
)

// keeper keeps a client's session on a connection, and makes another session
// when it has ended. Its fields belong to the goroutine in run, which never
// blocks: the one attempt to connect that may be under way has its own.
type keeper struct {
	c     *Client
	ctx   context.Context
	only  bool          // no session but this one: there will be no new streams
	pause time.Duration // before the next attempt but one

	session *mux.Session // nil: none
	server  string       // that the session is with, or that was tried last
	up      bool         // the session has a connection
	since   time.Time    // when that came
	arrived uint64       // bytes that had arrived, at either end, by then
	moving  bool         // it shall get another connection: that is being tried, or planned

	cancel  context.CancelFunc // of the attempt under way, or nil
	tried   *mux.Session       // the session that it is for, or nil
	again   bool               // if that fails, the next follows at once
	started time.Time          // when it began
	result  chan outcome

	retry  *time.Timer // begins the next attempt
	move   *time.Timer // begins a move to another connection
	prefer *time.Timer // looks whether a server that comes before is back
}

// outcome is how an attempt to connect ended: with the present session on
// another connection, with a new session, or with an error.
type outcome struct {
	session *mux.Session
	server  string
	err     error
	looked  bool // it was only a look for a better server
}

func newKeeper(ctx context.Context, c *Client) *keeper {
	k := &keeper{c: c, ctx: ctx, pause: c.cfg.BackoffMin, result: make(chan outcome, 1)}
	for _, t := range []**time.Timer{&k.retry, &k.move, &k.prefer} {
		*t = time.NewTimer(time.Hour)
		(*t).Stop()
	}
	return k
}

// run returns nil when ctx is done, and a refusal under ExitOnRefusal.
func (k *keeper) run() error {
	for {
		var down, done, away <-chan struct{}
		var move <-chan time.Duration
		if s := k.session; s != nil {
			done, move = s.Done(), s.Move()
			if !k.only || s.Resumable() { // see leave
				away = s.Away()
			}
			if k.up {
				down = s.Down()
			}
		}
		var err error
		select {
		case <-k.ctx.Done():
			return nil
		case <-k.c.pulse: // Healthy asks
		case out := <-k.result:
			err = k.took(out)
		case <-down:
			k.lost()
		case <-done:
			if k.ended(); k.only {
				return nil
			}
		case <-away:
			k.leave()
		case within := <-move:
			k.c.log.Info("the server asks its clients to move", "server", k.server)
			k.move.Reset(rand.N(within + 1))
		case <-k.c.kick:
			k.kicked()
		case <-k.move.C:
			if k.up && !k.moving { // what is under way is a look at most
				k.moving = true
				k.restart()
			}
		case <-k.retry.C:
			k.begin()
		case <-k.prefer.C:
			k.prefer.Reset(jitter(k.c.cfg.PreferInterval))
			if k.up {
				k.begin()
			}
		}
		if err != nil {
			return err
		}
	}
}

// stop ends the attempt that is under way, and the session.
func (k *keeper) stop() {
	if k.cancel != nil {
		k.cancel()
		if out := <-k.result; out.err == nil && out.session != k.session {
			out.session.CloseReason(mux.CloseDone, "")
		}
	}
	if k.session != nil {
		k.session.CloseReason(mux.CloseDone, "")
		k.c.publish(nil, State{Server: k.server, Err: context.Cause(k.ctx)})
	}
}

// begin starts the attempt that is due, unless there is one already, or the only
// session cannot leave its connection.
func (k *keeper) begin() {
	if k.cancel != nil || k.only && !k.session.Resumable() {
		return
	}
	attempt := k.c.reconnect
	switch {
	case k.only, k.up && k.moving:
		attempt = k.c.moved
	case k.up:
		attempt = k.c.look
	}
	ctx, cancel := context.WithCancel(k.ctx)
	k.cancel, k.tried, k.again, k.started = cancel, k.session, false, time.Now()
	k.retry.Stop()
	session, server := k.session, k.server
	go func() { k.result <- attempt(ctx, session, server) }()
}

// restart is begin, but ends an attempt that is under way: in the network that
// was there before it would hang until its timeout.
func (k *keeper) restart() {
	if k.cancel != nil {
		k.again = true
		k.cancel()
		return
	}
	k.begin()
}

// reconnect makes a session, or puts the one that has lost its connection on
// another. If that one's server cannot be reached, others get a new session.
func (c *Client) reconnect(ctx context.Context, session *mux.Session, server string) outcome {
	if session == nil {
		session, server, err := c.connect(ctx, c.order(server))
		return outcome{session: session, server: server, err: err}
	}
	next, err := c.resume(ctx, session, server)
	if err == nil {
		return outcome{session: next, server: server}
	}
	var others []string
	if ctx.Err() == nil && !errors.Is(err, mux.ErrNotResumable) {
		others = slices.DeleteFunc(c.order(""), func(s string) bool { return s == server })
	}
	next, other, err := c.connect(ctx, others, err)
	if err != nil {
		return outcome{server: server, err: err}
	}
	return outcome{session: next, server: other}
}

// moved puts a session on another connection to the same server, or makes a new
// one there for one that cannot leave its connection.
func (c *Client) moved(ctx context.Context, session *mux.Session, server string) outcome {
	var next *mux.Session
	var err error
	if session.Resumable() {
		next, err = c.resume(ctx, session, server)
	} else {
		next, err = c.connectTo(ctx, server)
	}
	if err != nil {
		err = joined([]error{err})
	}
	return outcome{session: next, server: server, err: err}
}

// look tries the servers that come before the session's.
func (c *Client) look(ctx context.Context, _ *mux.Session, server string) outcome {
	session, found, err := c.connect(ctx, c.cfg.Servers[:max(slices.Index(c.cfg.Servers, server), 0)])
	return outcome{session: session, server: found, err: err, looked: true}
}

// took takes the outcome of an attempt.
func (k *keeper) took(out outcome) error {
	k.cancel()
	k.cancel = nil
	switch {
	case out.err == nil && out.session == k.session:
		k.back()
	case out.err == nil && out.session == k.tried: // which has been left meanwhile
		k.begin()
	case out.err == nil && k.only: // the session ends with its connection
		k.c.retired.Go(func() { out.session.CloseReason(mux.CloseDone, "") })
	case out.err == nil:
		k.change(out)
	case k.again:
		k.begin()
	case k.session != nil && closed(k.session.Done()):
		// ended will see to it.
	case out.looked:
		k.c.log.Debug("no server that comes before is back", "error", out.err)
	default:
		if !k.up {
			k.server = out.server
			k.c.cfg.OnState(State{Server: out.server, Err: out.err})
			if errors.Is(out.err, ErrRefused) && k.c.cfg.ExitOnRefusal {
				return out.err
			}
		}
		wait := jitter(k.pause)
		k.longer()
		k.retry.Reset(wait)
		k.c.logFailure(out.err, wait)
	}
	return nil
}

// back is the present session on its next connection.
func (k *keeper) back() {
	r := k.session.Stats().Last
	if k.up && r.Down == 0 {
		k.c.log.Info("link moved", "server", k.server, "replayed", r.Replayed)
	} else {
		k.c.log.Info("link back", "server", k.server, "down", r.Down.Round(time.Millisecond), "replayed", r.Replayed)
	}
	wasUp := k.up
	k.comeUp()
	if !wasUp {
		k.c.publish(k.session, State{Up: true, Server: k.server})
	}
}

// change makes a new session the present one.
func (k *keeper) change(out outcome) {
	if old, server := k.session, k.server; old != nil {
		if closed(old.Down()) && !old.Resumable() {
			k.ended()
		} else {
			k.c.log.Info("link left", "server", server, "streams", old.NumStreams())
			k.c.retired.Go(func() { k.c.retire(k.ctx, old, server) })
			if k.up { // else publish has been told already
				k.c.publish(nil, State{Server: server, Err: errLeft})
			}
		}
	}
	k.goDown()
	k.session, k.server = out.session, out.server
	k.c.log.Info("link up", "server", k.server, "took", time.Since(k.started).Round(time.Millisecond))
	k.comeUp()
	k.prefer.Stop()
	if !k.only && !k.c.cfg.RandomServer && slices.Index(k.c.cfg.Servers, k.server) > 0 {
		k.prefer.Reset(jitter(k.c.cfg.PreferInterval))
	}
	k.c.publish(k.session, State{Up: true, Server: k.server})
}

var (
	errLeft = errors.New("another session takes over")
	errAway = errors.New("the server asks its clients to move")
)

// comeUp is a connection for the present session, which may have another still.
func (k *keeper) comeUp() {
	k.up, k.since, k.moving = true, time.Now(), false
	k.arrived = arrivals(k.session)
	k.retry.Stop()
	if age := k.c.cfg.MaxConnectionAge; age > 0 {
		k.move.Reset(age - rand.N(age/10+1))
	}
}

// lost is the present session without a connection.
func (k *keeper) lost() {
	k.goDown()
	if !k.session.Resumable() || closed(k.session.Done()) {
		return // it ends
	}
	lasted := time.Since(k.since)
	reason := k.session.Stats().Lost
	k.c.log.Warn("link lost", "server", k.server, "after", lasted.Round(time.Millisecond), "reason", reason)
	k.c.publish(nil, State{Server: k.server, Err: reason})
	if lasted < worthAfter && arrivals(k.session) == k.arrived && k.cancel == nil {
		k.retry.Reset(jitter(k.pause))
		k.longer()
		return
	}
	k.pause = k.c.cfg.BackoffMin
	if k.moving && k.cancel != nil {
		k.again = true // for the other servers, if this one cannot be reached
		return
	}
	k.restart()
}

// arrivals is how many bytes have come to either end.
func arrivals(session *mux.Session) uint64 {
	st := session.Stats()
	return st.Received + st.Sent - uint64(st.Unacknowledged)
}

func (k *keeper) goDown() {
	if k.up && !k.moving && k.cancel != nil {
		k.cancel() // a look, which may hang
	}
	k.up = false
	k.move.Stop()
}

// ended is the end of the present session.
func (k *keeper) ended() {
	session := k.session
	k.session = nil
	k.goDown()
	session.Close()
	err := session.Err() // a refusal is one when the next attempt says so, too
	k.c.publish(nil, State{Server: k.server, Err: err})
	k.c.log.Warn("link down", "server", k.server, "after", time.Since(k.since).Round(time.Millisecond), "reason", err)
	k.anew()
}

// leave is the server's wish that new streams go elsewhere.
func (k *keeper) leave() {
	session, server := k.session, k.server
	session.EndWithConnection() // it cannot be reached any more
	if k.only {
		return
	}
	k.session = nil
	k.goDown()
	k.c.retired.Go(func() { k.c.retire(k.ctx, session, server) })
	k.c.publish(nil, State{Server: server, Err: errAway})
	k.c.log.Warn("link down", "server", server, "after", time.Since(k.since).Round(time.Millisecond), "reason", errAway)
	if time.Since(k.since) > worthAfter {
		k.pause = k.c.cfg.BackoffMin // it is no failure
	}
	k.anew()
}

// anew plans the attempt for the next session.
func (k *keeper) anew() {
	k.moving = false
	if time.Since(k.since) > steadyAfter {
		k.pause = k.c.cfg.BackoffMin
	}
	if k.cancel != nil {
		k.again = true // it may well bring the next session
		return
	}
	k.retry.Reset(jitter(k.pause))
	k.longer()
}

// longer doubles the pause, within its bound.
func (k *keeper) longer() {
	most := k.c.cfg.BackoffMax
	if k.session != nil && !k.up { // its streams wait
		most = min(most, resumeBackoffMax)
	}
	k.pause = min(2*k.pause, most)
}

// kicked redials at once: a live session is asked for a sign of life, and
// moves to the new connection if that comes first.
func (k *keeper) kicked() {
	k.pause = k.c.cfg.BackoffMin
	if k.up {
		k.session.Probe()
		if !k.session.Resumable() && !k.moving {
			return
		}
		k.moving = true
	}
	k.restart()
}

func (c *Client) logFailure(err error, wait time.Duration) {
	args := []any{"error", err, "retry", wait.Round(time.Millisecond)}
	if list := hints(err, nil); len(list) > 0 {
		args = append(args, "hint", strings.Join(list, "; "))
	}
	if errors.Is(err, ErrRefused) {
		c.log.Error("refused by the server", args...)
		return
	}
	c.log.Warn("cannot connect", args...)
}

// hints adds to list what an error advises, once each: it may be of several
// servers.
func hints(err error, list []string) []string {
	switch e := err.(type) {
	case *tunnel.StepError:
		if e.Hint != "" && !slices.Contains(list, e.Hint) {
			list = append(list, e.Hint)
		}
	case interface{ Unwrap() error }:
		list = hints(e.Unwrap(), list)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			list = hints(err, list)
		}
	}
	return list
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
