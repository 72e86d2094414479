package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"adit/tunnel/ws"
)

// Conn is what a link needs of the connection under it: messages, pings, and
// ways to end it. One goroutine reads and one writes; the other methods may be
// called at any time. *ws.Conn is one.
type Conn interface {
	// NextMessage waits for the next message, skipping what is left of the
	// present one. Pings are answered and pongs handled inside.
	NextMessage() (ws.Opcode, error)
	// Read reads the present message, and returns io.EOF at its end.
	Read(p []byte) (int, error)
	// Buffered reports whether bytes were received that Read has not returned.
	Buffered() bool
	// WriteBuffer sends b[Headroom():] as one message and uses the rest of b as
	// scratch space.
	WriteBuffer(op ws.Opcode, b []byte) error
	Headroom() int

	// Ping sends a ping ahead of the next message. OnPong registers the function
	// that gets the payloads of pongs, called by the reading goroutine; it is
	// called before the first read.
	Ping(payload []byte) error
	OnPong(f func(payload []byte))
	// LastRead returns when the last byte arrived.
	LastRead() time.Time
	RemoteAddr() net.Addr

	// Interrupt makes the present and all later reads and writes fail at once,
	// without closing the connection.
	Interrupt()
	// StopReadingAfter makes reads fail after d, and StopWritingAfter writes.
	StopReadingAfter(d time.Duration)
	StopWritingAfter(d time.Duration)
	// Close sends what tells the peer of an orderly end and closes the
	// connection, within seconds. CloseNow closes it at once.
	Close(code ws.StatusCode, reason string) error
	CloseNow() error
}

// connection is a Conn in the link's use.
type connection struct {
	conn Conn

	skip      uint64 // bytes to come that an earlier connection has brought; guarded by link.mu
	inMessage bool   // read is inside a data message; only Read's
	hasData   bool   // and has read some of its data

	writeFailed bool          // nothing more is written; guarded by link.mu
	gone        chan struct{} // closed when the link has detached it

	wakeWatch chan struct{} // makes watch look at once
	probeBy   atomic.Int64  // a probe's deadline on the link's clock; 0 is none
}

func newConnection(conn Conn, skip uint64) *connection {
	return &connection{conn: conn, skip: skip, gone: make(chan struct{}), wakeWatch: make(chan struct{}, 1)}
}

// readAfterWriteError is how long a connection that cannot be written to is
// still read, and how long one that another has superseded stays open.
const readAfterWriteError = time.Second

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
	l.wg.Go(func() { l.watch(c) })
	l.attached.Broadcast()
	l.space.wake()
	l.drained.Broadcast()
	l.work.Signal()
}

// detachLocked stops using the link's connection c, because of err.
func (l *Link) detachLocked(c *connection, err error) {
	l.conn, l.since = nil, time.Now()
	close(c.gone)
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

// writeErrorLocked stops writing to c after a write error, and reads for a
// little longer: the peer's close message may explain it. link.mu is held.
func (c *connection) writeErrorLocked() {
	c.writeFailed = true
	c.conn.StopReadingAfter(readAfterWriteError)
}

// read reads bytes of the link's stream.
func (c *connection) read(l *Link, p []byte) (int, error) {
	for {
		if !c.inMessage {
			if err := c.nextMessage(l); err != nil {
				return 0, err
			}
			c.inMessage, c.hasData = true, false
		}
		n, err := c.conn.Read(p)
		if n > 0 {
			c.hasData = true
			return n, nil
		}
		if err == io.EOF && !c.hasData {
			return 0, ProtocolError("a data message without data")
		}
		if err == io.EOF {
			c.inMessage = false
		} else if err != nil {
			return 0, err
		}
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
