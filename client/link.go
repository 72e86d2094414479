package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// ErrRefused is wrapped by the error of a client whose server refuses it for
// good: wrong credentials, a certificate that is not the right one.
var ErrRefused = errors.New("the server refuses this client")

// ErrLinkDown is why a connection was reset that waited for the link in vain.
var ErrLinkDown = errors.New("the link to the server is down")

// steadyAfter is how long a link must have lasted for the next attempt to be
// immediate again.
const steadyAfter = 10 * time.Second

// upkeep keeps the link up until ctx is done.
func (c *Client) upkeep(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watchNetwork(ctx)
	}()
	defer func() { cancel(); <-watched; c.retired.Wait() }()

	pause := c.cfg.BackoffMin
	for {
		start := time.Now()
		session, server, err := c.connectAnew(ctx)
		if err == nil {
			up := time.Now()
			c.log.Info("link up", "server", server, "took", up.Sub(start).Round(time.Millisecond))
			c.publish(session, State{Up: true, Server: server})
			err = c.attend(ctx, session)
			c.publish(nil, State{Server: server, Err: err})
			if ctx.Err() == nil {
				c.log.Warn("link down", "server", server, "after", time.Since(up).Round(time.Millisecond), "reason", err)
			}
			if time.Since(up) > steadyAfter {
				pause = c.cfg.BackoffMin
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrRefused) && c.cfg.ExitOnRefusal {
			return err
		}
		wait := jitter(pause)
		if session == nil {
			c.cfg.OnState(State{Server: server, Err: err})
			c.logFailure(err, wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
			pause = c.cfg.BackoffMin
		case <-time.After(wait):
			pause = min(2*pause, c.cfg.BackoffMax)
		}
	}
}

func (c *Client) logFailure(err error, wait time.Duration) {
	args := []any{"error", err, "retry", wait.Round(time.Millisecond)}
	var step *tunnel.StepError
	if errors.As(err, &step) && step.Hint != "" {
		args = append(args, "hint", step.Hint)
	}
	if errors.Is(err, ErrRefused) {
		c.log.Error("refused by the server", args...)
		return
	}
	c.log.Warn("cannot connect", args...)
}

// connectAnew is connect, begun anew at each kick: an attempt that hangs in
// the network that was there before would hang until its timeout.
func (c *Client) connectAnew(ctx context.Context) (session *mux.Session, server string, err error) {
	for {
		attempt, cancel := context.WithCancel(ctx)
		kicked := make(chan bool)
		go func() {
			select {
			case <-c.kick:
				cancel()
				kicked <- true
			case <-attempt.Done():
				kicked <- false
			}
		}()
		session, server, err = c.connect(attempt)
		cancel()
		if !<-kicked || err == nil || ctx.Err() != nil {
			return session, server, err
		}
	}
}

// connect makes a session with the first server that gives one. The error
// wraps ErrRefused if all of them refuse: otherwise another may be back soon.
func (c *Client) connect(ctx context.Context) (session *mux.Session, server string, err error) {
	var errs []error
	refused := true
	for _, server = range c.cfg.Servers {
		if session, err = c.connectTo(ctx, server); err == nil {
			return session, server, nil
		}
		errs = append(errs, err)
		refused = refused && forGood(err)
		if ctx.Err() != nil {
			break
		}
	}
	err = errors.Join(errs...)
	if refused {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil, server, err
}

func (c *Client) connectTo(ctx context.Context, server string) (*mux.Session, error) {
	conn, err := c.cfg.Dialer.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	session, err := mux.Client(ctx, conn, &c.cfg.Mux)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return session, nil
}

// forGood tells an error that trying again will not mend.
func forGood(err error) bool {
	var step *tunnel.StepError
	var closed *mux.ClosedError
	return errors.As(err, &step) && step.Permanent ||
		errors.As(err, &closed) && (closed.Code == mux.CloseVersion || closed.Code == mux.CloseRevoked)
}

// attend stays with a session until it is of no more use for new streams.
func (c *Client) attend(ctx context.Context, session *mux.Session) error {
	for {
		select {
		case <-ctx.Done():
			session.CloseReason(mux.CloseDone, "")
			return ctx.Err()
		case <-session.Done():
			session.Close()
			return session.Err() // a refusal is one when the next attempt says so, too
		case <-session.Away():
			c.retired.Go(func() { c.retire(ctx, session) })
			return errors.New("the server asks its clients to move")
		case <-c.kick:
			session.Probe()
		}
	}
}

// retire lets the streams of a session that takes no new ones come to their
// ends.
func (c *Client) retire(ctx context.Context, session *mux.Session) {
	select {
	case <-ctx.Done():
		session.CloseReason(mux.CloseDone, "")
	case <-session.Done():
		session.Close()
	}
}

// publish makes a session the one for new streams; nil means there is none.
func (c *Client) publish(session *mux.Session, state State) {
	c.mu.Lock()
	c.session = session
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	c.cfg.OnState(state)
}

// open opens a stream as soon as there is a link, and gives up when ctx is
// done.
func (c *Client) open(ctx context.Context, target mux.Target) (*mux.Stream, error) {
	for {
		c.mu.Lock()
		session, changed := c.session, c.changed
		c.mu.Unlock()
		if session != nil {
			st, err := session.Open(ctx, target)
			var refused *mux.RefusedError
			away := errors.As(err, &refused) && refused.Code == mux.GoingAway
			if err == nil || !away && !errors.Is(err, mux.ErrSessionLost) && ctx.Err() == nil {
				return st, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ErrLinkDown
		}
	}
}

// jitter takes up to half of d away, so that many clients of a server that went
// away do not return as one.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}
