package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// ErrRefused is wrapped by the error of a client whose server refuses it for
// good: wrong credentials, a certificate that is not the right one.
var ErrRefused = errors.New("the server refuses this client")

// ErrLinkDown is why a connection was reset that waited for the link in vain.
var ErrLinkDown = errors.New("the link to the server is down")

// upkeep keeps the link up until ctx is done.
func (c *Client) upkeep(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watchNetwork(ctx)
	}()
	defer func() { cancel(); <-watched; c.retired.Wait() }()
	k := newKeeper(ctx, c)
	defer k.stop()
	k.begin()
	return k.run()
}

// connect makes a session with the first of some servers that gives one; errs
// are those of others, which have been tried before. The error wraps ErrRefused
// if all of them refuse: otherwise another may be back soon.
func (c *Client) connect(ctx context.Context, servers []string, errs ...error) (session *mux.Session, server string, err error) {
	for _, server = range servers {
		if session, err = c.connectTo(ctx, server); err == nil {
			return session, server, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, server, joined(errs)
}

// joined is one error of several attempts. They must not be joined themselves:
// a refusal in one of them would be taken for a refusal by all.
func joined(errs []error) error {
	err := errors.Join(errs...)
	if !slices.ContainsFunc(errs, func(err error) bool { return !forGood(err) }) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

func (c *Client) connectTo(ctx context.Context, server string) (session *mux.Session, err error) {
	start := time.Now()
	defer func() { c.noteDial(server, session, err, time.Since(start)) }()
	conn, err := c.cfg.Dialer.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	session, err = mux.Client(ctx, conn, &c.cfg.Mux)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return session, nil
}

// resume puts a session on another connection to its server. It gives a new
// session instead if the server does not know the old one, which has ended
// then.
func (c *Client) resume(ctx context.Context, session *mux.Session, server string) (next *mux.Session, err error) {
	start := time.Now()
	defer func() {
		fresh := next
		if next == session {
			fresh = nil
		}
		c.noteDial(server, fresh, err, time.Since(start))
	}()
	conn, err := c.cfg.Dialer.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	next, err = session.Resume(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return next, nil
}

// forGood tells an error that trying again will not mend.
func forGood(err error) bool {
	var step *tunnel.StepError
	var closed *mux.ClosedError
	return errors.As(err, &step) && step.Permanent ||
		errors.As(err, &closed) && (closed.Code == mux.CloseVersion || closed.Code == mux.CloseRevoked)
}

// order is in which order the servers are tried: what worked last comes first.
func (c *Client) order(last string) []string {
	list := slices.Clone(c.cfg.Servers)
	if c.cfg.RandomServer {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	if i := slices.Index(list, last); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, last)
	}
	return list
}

// retire lets the streams of a session that gets no new ones come to their
// ends, on whatever connections that takes, and then closes it.
func (c *Client) retire(ctx context.Context, session *mux.Session, server string) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		session.Shutdown(ctx, mux.CloseDone, "")
	}()
	defer func() { <-ended }()
	for pause := c.cfg.BackoffMin; ; pause = min(2*pause, c.cfg.BackoffMax, resumeBackoffMax) {
		select {
		case <-session.Down():
		case <-ended:
			return
		}
		if !session.Resumable() { // it is ending
			<-ended
			return
		}
		next, err := c.resume(ctx, session, server)
		switch {
		case err != nil:
			select {
			case <-time.After(jitter(pause)):
			case <-ended:
			}
		case next != session:
			next.CloseReason(mux.CloseDone, "")
		default:
			pause = c.cfg.BackoffMin
		}
		select {
		case <-session.Done():
			return
		default:
		}
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
