package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"adit/tunnel"
	"adit/tunnel/ws"
)

// maxHotReads bounds the connections, of all routes, that wait for more data
// of a client with a large buffer in hand: tunnel.BufferSize each.
const maxHotReads = 256

// hotRead is how much data in one read lets more of it be expected.
const hotRead = 2 << 10

// clientEnd is the endpoint of a relay at a client's WebSocket. A WebSocket
// has no half-close and no reset, so this is what becomes of the ends:
//
//   - The backend ends its data: all of it is sent, then Close 1000. What the
//     client sends until it answers still reaches the backend.
//   - The backend resets, or sends in text mode what is no text: Close 1011
//     behind all that came before.
//   - The client closes with 1000, 1001, no code, or one of its own (3000 to
//     4999): the same code is answered, and the backend gets all the data and
//     then an end. What the backend still sends is discarded, for up to
//     Route.LingerTimeout.
//   - The client closes with another code, breaks the protocol, or is lost:
//     the backend gets what arrived, and a reset.
//   - Pings stay unanswered: Close 1011. No payload for Route.IdleTimeout, or
//     the server stops: Close 1001. The user, or the credential that was shown,
//     is removed: Close 1008. The backend gets a reset in all of these.
type clientEnd struct {
	conn    *ws.Conn
	backend *tunnel.Socket
	route   *route
	in      input
	out     output

	hotReads *atomic.Int64 // of all routes
	hot      bool          // more data is to be expected soon; of the reader
	leased   bool          // this end is counted in hotReads; of the reader

	// For the watch; nanoseconds since clockBase.
	readFrom atomic.Int64 // when the reader began to wait; 0 while it does not
	received atomic.Int64 // when payload was last received
	sent     atomic.Int64 // when payload was last sent
	writing  atomic.Bool

	receivedBytes, sentBytes atomic.Uint64 // of payload

	over     atomic.Bool // nothing more is sent: the client has closed or is gone
	finished chan struct{}

	mu     sync.Mutex
	cause  string // why end was called first; "" before
	timers []*time.Timer
	closed bool // the relay is done
}

func newClientEnd(conn *ws.Conn, backend *tunnel.Socket, rt *route, hotReads *atomic.Int64) *clientEnd {
	c := &clientEnd{conn: conn, backend: backend, route: rt, hotReads: hotReads, finished: make(chan struct{})}
	c.in, c.out = framing(conn, rt.text)
	now := clock()
	c.received.Store(now)
	c.sent.Store(now)
	return c
}

// clockBase and clock make times that fit an atomic.
var clockBase = time.Now()

func clock() int64 { return int64(time.Since(clockBase)) }

// WaitReadable blocks without a buffer until there is something to read. Where
// data flows it does not block, and Read reads into the relay's buffer itself.
func (c *clientEnd) WaitReadable() error {
	c.readFrom.Store(clock())
	if c.hot {
		if c.hotReads.Add(1) <= maxHotReads {
			c.leased = true
			return nil
		}
		c.hotReads.Add(-1)
	}
	_ = c.in.wait() // Read reports it, and what it means
	return nil
}

// Read gives payload, or nothing where there is more to wait for. It never fills
// p, so that the relay always calls WaitReadable in between.
func (c *clientEnd) Read(p []byte) (int, error) {
	n, err := c.in.read(p[:len(p)-1])
	if c.leased {
		c.leased = false
		c.hotReads.Add(-1)
	}
	c.readFrom.Store(0)
	c.hot = n >= hotRead
	if n > 0 {
		c.received.Store(clock())
		c.receivedBytes.Add(uint64(n))
	}
	if err != nil {
		return n, c.clientEnded(err)
	}
	return n, nil
}

// clientEnded acts on the end of what the client sends, and returns what it
// means to the backend.
func (c *clientEnd) clientEnded(err error) error {
	c.over.Store(true)
	var closed *ws.CloseError
	var fault *ws.ProtocolError
	switch {
	case errors.As(err, &closed):
		c.end(ws.StatusNormal, "", fmt.Sprintf("the client closed with %d", closed.Code))
		if !orderly(closed.Code) {
			return err
		}
		return io.EOF
	case errors.As(err, &fault):
		c.end(fault.Code, fault.Reason, fault.Error()) // the code is already on its way
	case errors.Is(err, errBase64):
		c.end(ws.StatusInvalidPayload, err.Error(), err.Error())
	default:
		c.end(0, "", "the client is gone: "+err.Error())
	}
	return err
}

// orderly reports whether a client that closes with code has done what it
// wanted.
func orderly(code ws.StatusCode) bool {
	switch code {
	case ws.StatusNormal, ws.StatusGoingAway, ws.StatusNoStatus:
		return true
	}
	return code >= 3000
}

// Headroom is what WriteBuffer wants.
func (c *clientEnd) Headroom() int { return c.out.headroom() }

// Write is not what the relay uses.
func (c *clientEnd) Write(p []byte) (int, error) {
	b := make([]byte, c.Headroom()+len(p))
	copy(b[c.Headroom():], p)
	return c.WriteBuffer(b)
}

// WriteBuffer sends what the backend sent. When the client takes no more, that
// is discarded: its own last data may still be on the way to the backend.
func (c *clientEnd) WriteBuffer(b []byte) (int, error) {
	n := len(b) - c.Headroom()
	if c.over.Load() {
		return n, nil
	}
	c.writing.Store(true)
	err := c.out.write(b)
	c.writing.Store(false)
	switch {
	case err == nil:
		c.sent.Store(clock())
		c.sentBytes.Add(uint64(n))
	case errors.Is(err, ws.ErrInvalidUTF8):
		c.end(ws.StatusInternalError, "the backend's data is not UTF-8", "the backend's data is not UTF-8")
		return n, err
	case errors.Is(err, net.ErrClosed):
		// There has been a Close, of which the reader will tell.
		c.over.Store(true)
	default:
		c.lost(err.Error())
	}
	return n, nil
}

// lost is told that the client's connection is gone, by other means than
// reading. There may be more to read, even a Close, and a backend that takes
// it, but not for long.
func (c *clientEnd) lost(cause string) {
	c.over.Store(true)
	c.after(c.route.LingerTimeout, func() {
		c.end(0, "", "the client is gone: "+cause)
		c.backend.Abort()
	})
}

// CloseWrite says that the backend has nothing more to send.
func (c *clientEnd) CloseWrite() error {
	if c.over.Load() {
		return nil
	}
	if err := c.out.end(); err != nil {
		c.end(ws.StatusInternalError, "the backend's data is not UTF-8", "the backend's data is not UTF-8")
		return err
	}
	c.conn.SendClose(ws.StatusNormal, "")
	c.over.Store(true)
	now := clock()
	c.awaitAnswer(now, now+int64(c.route.LingerTimeout))
	return nil
}

// awaitAnswer ends the connection of a client that does not answer our Close.
// While it sends data it is still on its way to that, though not beyond limit.
func (c *clientEnd) awaitAnswer(since, limit int64) {
	c.after(ws.DefaultCloseTimeout, func() {
		now := clock()
		if c.received.Load() > since && now < limit {
			c.awaitAnswer(now, limit)
			return
		}
		c.end(ws.StatusNormal, "", "the backend ended, and the client did not answer the close")
	})
}

// backendBroke is told that the backend's connection has failed.
func (c *clientEnd) backendBroke(err error) {
	c.end(ws.StatusInternalError, "the backend's connection failed", "the backend failed: "+err.Error())
}

// cut ends the connection of a client that has done nothing wrong. The backend
// is reset first: the client's answer to the Close is no end of its data.
func (c *clientEnd) cut(code ws.StatusCode, reason string) {
	first := c.claim(reason)
	c.backend.Abort()
	if first {
		c.close(code, reason)
	}
}

// Abort ends the connection. The first reason to do so decides about the code.
func (c *clientEnd) Abort() {
	c.end(ws.StatusInternalError, "the backend's connection failed", "the relay failed")
}

// end closes the WebSocket with code, or at once if that is 0, and does not
// wait. Only the first call counts. The rest of the relay then has
// Route.LingerTimeout to come to its own end.
func (c *clientEnd) end(code ws.StatusCode, reason, cause string) {
	if c.claim(cause) {
		c.close(code, reason)
	}
}

// claim reports whether this is the first cause to end the connection.
func (c *clientEnd) claim(cause string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		return false
	}
	c.cause = cause
	c.over.Store(true)
	return true
}

func (c *clientEnd) close(code ws.StatusCode, reason string) {
	go func() {
		defer close(c.finished)
		if code == 0 {
			c.conn.CloseNow()
		} else {
			c.conn.Close(code, reason)
		}
		c.after(c.route.LingerTimeout, c.backend.Abort)
	}()
}

// after calls f when d has passed and the relay is not yet done.
func (c *clientEnd) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.timers = append(c.timers, time.AfterFunc(d, f))
	}
}

// Close waits until the WebSocket has been closed.
func (c *clientEnd) Close() error {
	c.end(ws.StatusNormal, "", "both sides ended")
	c.mu.Lock()
	c.closed = true
	for _, t := range c.timers {
		t.Stop()
	}
	c.mu.Unlock()
	<-c.finished
	return nil
}

// ending says in the log how the connection ended.
func (c *clientEnd) ending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}
