package client

import (
	"context"
	"errors"
)

// Healthy returns nil if a client in Run makes progress: its accept loops are
// not stuck, and the connector responds before ctx is done. An idle client and
// one that cannot connect are healthy. The error says what is stuck. It takes
// microseconds; give ctx some seconds for a machine that is overloaded. It is
// what systemd's watchdog asks.
func (c *Client) Healthy(ctx context.Context) error {
	return c.progress.Check(ctx, func(ctx context.Context, at func(string)) error {
		at("the connector")
		select {
		case c.connector.pulse <- struct{}{}:
		case <-ctx.Done():
			return errors.New("stuck at the connector: no response")
		}
		at("the lock of the current session")
		session, _ := c.current.get()
		if session != nil {
			at("the session")
			session.Stats()
		}
		return nil
	})
}
