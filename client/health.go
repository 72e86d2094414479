package client

import (
	"context"
	"errors"
)

// Healthy returns nil when a client in Run makes progress: its accept loops are not stuck, and the
// loop that keeps the link up answers before ctx is done. A client that nobody uses is healthy, and
// so is one that has no link and tries again. The error says what is stuck; ctx should allow some
// seconds, as for a machine that is overloaded.
//
// It is what a watchdog asks, and takes microseconds.
func (c *Client) Healthy(ctx context.Context) error {
	return c.progress.Check(ctx, func(ctx context.Context, at func(string)) error {
		at("the loop that keeps the link up")
		select {
		case c.pulse <- struct{}{}:
		case <-ctx.Done():
			return errors.New("stuck at the loop that keeps the link up: it does not answer")
		}
		at("the lock of the link")
		c.mu.Lock()
		session := c.session
		c.mu.Unlock()
		if session != nil {
			at("the session")
			session.Stats()
		}
		return nil
	})
}
