package client

import (
	"context"
	"errors"
	"sync"

	"adit/mux"
)

// currentSession holds the session that takes new streams. The connector sets
// it; any goroutine may open streams.
type currentSession struct {
	mu      sync.Mutex
	session *mux.Session  // nil while there is none, or it has no connection
	changed chan struct{} // closed by set, and then replaced
}

func newCurrentSession() *currentSession {
	return &currentSession{changed: make(chan struct{})}
}

// set makes session the current one; nil means none.
func (c *currentSession) set(session *mux.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session
	close(c.changed)
	c.changed = make(chan struct{})
}

// get returns the current session, and a channel that is closed when that
// changes.
func (c *currentSession) get() (session *mux.Session, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.changed
}

// open opens a stream as soon as there is a session, and returns both. It returns
// ErrLinkDown when ctx is done before.
func (c *currentSession) open(ctx context.Context, target mux.Target) (*mux.Stream, *mux.Session, error) {
	for {
		session, changed := c.get()
		if session != nil {
			st, err := session.Open(ctx, target)
			var refused *mux.RefusedError
			goingAway := errors.As(err, &refused) && refused.Code == mux.GoingAway
			if err == nil || !goingAway && !errors.Is(err, mux.ErrSessionLost) && ctx.Err() == nil {
				return st, session, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ErrLinkDown
		}
	}
}
