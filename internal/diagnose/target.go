package diagnose

import (
	"context"
	"errors"
	"fmt"
	"time"

	"adit/internal/hint"
	"adit/mux"
)

// target asks the server to connect to a target and closes the connection.
func (c *Check) target(ctx context.Context, session *mux.Session, t mux.Target) error {
	start := time.Now()
	st, err := c.open(ctx, session, t)
	var refused *mux.RefusedError
	switch {
	case err == nil:
		st.Close()
		c.ok("policy", "the server lets this client reach "+t.String(), start)
		c.ok("target", t.String()+" accepts connections", start)
		return nil
	case !errors.As(err, &refused):
		return c.fail("target", fmt.Errorf("%s: %w", t, err), time.Since(start))
	}
	err = hint.Errorf(refusalHint(refused), "%s: %w", t, err)
	if refused.Code == mux.Forbidden {
		return c.fail("policy", err, time.Since(start))
	}
	c.ok("policy", "the server lets this client ask for "+t.String(), start)
	return c.fail("target", err, time.Since(start))
}

// open opens a stream and waits for the server's answer.
func (c *Check) open(ctx context.Context, session *mux.Session, t mux.Target) (*mux.Stream, error) {
	// The server limits its own dial to 10 s and then names the reason, which is
	// better than a timeout here.
	ctx, cancel := context.WithTimeout(ctx, c.Timeout+5*time.Second)
	defer cancel()
	st, err := session.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, st.Abort)
	err = st.Result()
	stop()
	if err != nil {
		st.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", c.Timeout+5*time.Second)
		}
		return nil, err
	}
	return st, nil
}

// roundTrip waits until the session has measured a ping.
func (c *Check) roundTrip(ctx context.Context, session *mux.Session) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	session.Probe()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for session.RTT() == 0 {
		select {
		case <-tick.C:
		case <-session.Done():
			return c.fail("round trip", session.Err(), 0)
		case <-ctx.Done():
			return c.fail("round trip", hint.Errorf("a middlebox drops WebSocket pings, or the path has stalled", "no answer to a ping within %v", c.Timeout), 0)
		}
	}
	c.line("✓", "round trip", "to the server and back through the link", session.RTT())
	return nil
}
