package link

import (
	"errors"
	"fmt"
	"time"

	"adit/tunnel/ws"
)

// attachLocked makes c the link's connection. The link is detached and lives.
func (l *Link) attachLocked(c *connection) {
	l.conn, l.since, l.migrating = c, time.Now(), false
	if l.down == nil || isClosed(l.down) {
		l.down = make(chan struct{})
	}
	l.rtt.Store(0) // the path may be another one
	l.flight = flightLimit{sentTo: l.send.sent, ackedTo: l.send.sent}
	l.frameSize.Store(int64(l.flight.messageSize()))
	l.holdTimer.Stop()
	c.conn.OnPong(l.pong)
	l.wg.Go(func() {
		if err := l.watch(c); err != nil {
			l.lose(c, err)
		}
	})
	l.attached.Broadcast()
	l.space.wake()
	l.drained.Broadcast()
	l.work.Signal()
}

// detachLocked stops using the link's connection c, because of err.
func (l *Link) detachLocked(c *connection, err error) {
	l.conn, l.since = nil, time.Now()
	close(c.gone)
	l.space.wake()
	l.work.Broadcast()
	l.drained.Broadcast()
	if l.migrating = err == errSuperseded; l.migrating {
		c.conn.Interrupt() // the goroutines in it go on with the next one
	} else {
		close(l.down)
	}
	l.wg.Go(func() { c.close(l, err) })
}

// lose handles the loss of a connection: the link waits for another, if it may.
func (l *Link) lose(c *connection, err error) {
	l.mu.Lock()
	switch {
	case l.conn != c:
	case l.hold <= 0 || l.closeMsg != nil || !l.resumable:
		l.failLocked(err)
	default:
		l.detachLocked(c, err)
		l.lostBy = err
		l.holdTimer.Reset(l.hold)
		l.mu.Unlock()
		if l.cfg.OnDown != nil {
			l.cfg.OnDown(err)
		}
		return
	}
	l.mu.Unlock()
}

// holdExpired ends a link that has been detached for too long.
func (l *Link) holdExpired() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil && time.Since(l.since) >= l.hold {
		l.failLocked(fmt.Errorf("%w, and not resumed within %v", ErrLost, l.hold))
	}
}

// close closes a detached connection, with a close frame where the peer is there
// to read it.
func (c *connection) close(l *Link, err error) {
	var closed *ClosedError
	var closeFrame *ws.CloseError
	var fault *ws.ProtocolError
	switch {
	case err == errSuperseded:
		// The peer closes it once it has migrated, and must not find it lost
		// before that.
		select {
		case <-l.done:
		case <-time.After(readAfterWriteError):
		}
		c.conn.CloseNow()
	case errors.Is(err, ErrProtocol):
		c.conn.StopWritingAfter(CloseTimeout) // frees a writer that is blocked
		b := make([]byte, c.conn.Headroom(), c.conn.Headroom()+2+MaxReason)
		c.conn.WriteBuffer(ws.OpBinary, AppendClose(b, CloseProtocol, err.Error()))
		c.conn.Close(ws.StatusProtocolError, "")
	case errors.As(err, &closed), errors.Is(err, errCloseSent), errors.As(err, &closeFrame), errors.As(err, &fault):
		c.conn.Close(ws.StatusNormal, "")
	default:
		c.conn.CloseNow()
	}
}

// EndWithConnection makes the link end when its connection is lost. A link that
// is detached already ends at once, for the reason err, unless a migration is
// under way.
func (l *Link) EndWithConnection(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = 0
	if l.conn == nil && !l.migrating {
		l.failLocked(err)
	}
}

// Fail ends the link for the reason err, unless it is over already.
func (l *Link) Fail(err error) {
	l.mu.Lock()
	l.failLocked(err)
	l.mu.Unlock()
}

func (l *Link) failLocked(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	close(l.done)
	l.ackTimer.Stop()
	l.holdTimer.Stop()
	l.space.wake()
	l.work.Broadcast()
	l.drained.Broadcast()
	l.attached.Broadcast()
	if c := l.conn; c != nil {
		l.detachLocked(c, err)
	} else if !isClosed(l.down) { // detached for a migration that did not come
		close(l.down)
	}
}

// Close ends the link at once and does not wait; Wait does.
func (l *Link) Close() error {
	l.Fail(errClosed)
	return nil
}
