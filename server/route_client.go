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

// maxBufferedReads bounds the connections, of all routes, that hold a buffer of
// tunnel.BufferSize while they wait for more data of the client.
const maxBufferedReads = 256

// bulkRead is the size of a read, in bytes, after which more data is expected.
const bulkRead = 2 << 10

// clientEnd is a relay's end at a client's WebSocket. A WebSocket has neither
// half-close nor reset; the ends of a connection are translated like this:
//
//   - The backend ends its data: all of it is sent, then Close 1000. Data that
//     the client sends until it answers the close still reaches the backend.
//   - The backend resets, or sends in text mode data that is not UTF-8: Close
//     1011 after all earlier data.
//   - The client closes with 1000, 1001, no code, or an application's code (3000
//     to 4999): the same code is answered, and the backend gets all data and
//     then an end. Data that the backend still sends is discarded, for up to
//     Route.LingerTimeout.
//   - The client closes with another code, breaks the protocol, or is lost:
//     the backend gets the data that arrived, and a reset.
//   - Pings stay unanswered: Close 1011. No payload for Route.IdleTimeout, or
//     the server stops: Close 1001. The user, or the credential that was shown,
//     is removed: Close 1008. The backend gets a reset in each case.
type clientEnd struct {
	conn     *ws.Conn
	backend  *tunnel.Socket
	settings *Route // with its defaults in place
	in       input
	out      output

	// Used by the reader goroutine only, except for the counter itself.
	bufferedReads *atomic.Int64 // of all routes
	bulk          bool          // the last read was large: more data is expected soon
	counted       bool          // this end is counted in bufferedReads

	// Read by the watch: times in nanoseconds since clockBase.
	readFrom atomic.Int64 // when the reader began to wait; 0 while it does not
	received atomic.Int64 // when payload was last received
	sent     atomic.Int64 // when payload was last sent
	writing  atomic.Bool

	receivedBytes, sentBytes atomic.Uint64 // of payload

	sendingOver atomic.Bool   // the client has closed or is gone: nothing more is sent
	clientLeft  atomic.Bool   // the client has closed or is gone, and was the first to end
	finished    chan struct{} // closed when the WebSocket is closed

	// Guarded by mu.
	mu     sync.Mutex
	cause  string // why end was called first; "" before
	timers []*time.Timer
	closed bool // the relay has ended
}

// newClientEnd returns a clientEnd for a route with these settings; text is
// whether the route's FrameType is text.
func newClientEnd(conn *ws.Conn, backend *tunnel.Socket, rt *Route, text bool, bufferedReads *atomic.Int64) *clientEnd {
	c := &clientEnd{conn: conn, backend: backend, settings: rt, bufferedReads: bufferedReads, finished: make(chan struct{})}
	c.in, c.out = framing(conn, text)
	now := clock()
	c.received.Store(now)
	c.sent.Store(now)
	return c
}

// clockBase is the origin of the times that clock returns, which fit an
// atomic.Int64.
var clockBase = time.Now()

func clock() int64 { return int64(time.Since(clockBase)) }

// Capabilities are those of a relay's endpoint.
func (c *clientEnd) Capabilities() tunnel.Capabilities {
	return tunnel.Capabilities{WaitReadable: c.waitReadable, WriteBuffer: c.writeBuffer, Headroom: c.out.headroom()}
}

// waitReadable blocks until there is something to read, without holding a buffer.
// During a bulk transfer it does not block: Read waits in its stead.
func (c *clientEnd) waitReadable() error {
	c.readFrom.Store(clock())
	if c.bulk {
		if c.bufferedReads.Add(1) <= maxBufferedReads {
			c.counted = true
			return nil
		}
		c.bufferedReads.Add(-1)
	}
	_ = c.in.wait() // Read reports the error
	return nil
}

// Read returns payload, or 0 bytes if there is more to wait for. It never fills p,
// so that the relay calls waitReadable before each Read.
func (c *clientEnd) Read(p []byte) (int, error) {
	n, err := c.in.read(p[:len(p)-1])
	if c.counted {
		c.counted = false
		c.bufferedReads.Add(-1)
	}
	c.readFrom.Store(0)
	c.bulk = n >= bulkRead
	if n > 0 {
		c.received.Store(clock())
		c.receivedBytes.Add(uint64(n))
	}
	if err != nil {
		return n, c.clientEnded(err)
	}
	return n, nil
}

// clientEnded ends the connection after a read error, and returns io.EOF if the
// client's data ended in order.
func (c *clientEnd) clientEnded(err error) error {
	if !c.sendingOver.Swap(true) {
		c.clientLeft.Store(true)
	}
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
		c.end(fault.Code, fault.Reason, fault.Error()) // conn has sent the code already
	case errors.Is(err, errBase64):
		c.end(ws.StatusInvalidPayload, err.Error(), err.Error())
	default:
		c.end(0, "", "the client is gone: "+err.Error())
	}
	return err
}

// orderly reports whether a client that closes with this code ends its data in
// order.
func orderly(code ws.StatusCode) bool {
	switch code {
	case ws.StatusNormal, ws.StatusGoingAway, ws.StatusNoStatus:
		return true
	}
	return code >= 3000
}

// Write copies p for writeBuffer, which the relay calls instead.
func (c *clientEnd) Write(p []byte) (int, error) {
	b := make([]byte, c.out.headroom()+len(p))
	copy(b[c.out.headroom():], p)
	return c.writeBuffer(b)
}

// writeBuffer sends data of the backend. It discards the data once the client
// takes no more: the client's own last data may still have to reach the backend.
func (c *clientEnd) writeBuffer(b []byte) (int, error) {
	n := len(b) - c.out.headroom()
	if c.sendingOver.Load() {
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
		// The connection is closing; the reader reports why.
		c.sendingOver.Store(true)
	default:
		c.lost(err.Error())
	}
	return n, nil
}

// lost is called when the client's connection is found to be gone other than by
// reading. There may be data left to read, even a close message, and a backend
// that takes it: both have Route.LingerTimeout.
func (c *clientEnd) lost(cause string) {
	c.sendingOver.Store(true)
	c.after(c.settings.LingerTimeout, func() {
		c.end(0, "", "the client is gone: "+cause)
		c.backend.Abort()
	})
}

// CloseWrite sends the client a close message: the backend has ended its data.
func (c *clientEnd) CloseWrite() error {
	if c.sendingOver.Load() {
		return nil
	}
	if err := c.out.end(); err != nil {
		c.end(ws.StatusInternalError, "the backend's data is not UTF-8", "the backend's data is not UTF-8")
		return err
	}
	c.conn.SendClose(ws.StatusNormal, "")
	c.sendingOver.Store(true)
	now := clock()
	c.awaitAnswer(now, now+int64(c.settings.LingerTimeout))
	return nil
}

// awaitAnswer ends the connection of a client that does not answer the close
// message. It keeps waiting while the client sends data, but not after limit.
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

// backendFailed is called when the backend's connection has failed.
func (c *clientEnd) backendFailed(err error) {
	c.end(ws.StatusInternalError, "the backend's connection failed", "the backend failed: "+err.Error())
}

// cut ends the connection for a reason of the server's. The backend is reset
// first, because the client's answer to the close message is no end of its data.
func (c *clientEnd) cut(code ws.StatusCode, reason string) {
	first := c.claim(reason)
	c.backend.Abort()
	if first {
		c.close(code, reason)
	}
}

// Abort ends the connection after a failure of the relay, unless it is ending for
// another reason.
func (c *clientEnd) Abort() {
	c.end(ws.StatusInternalError, "the backend's connection failed", "the relay failed")
}

// end starts to close the WebSocket with code, or without a close message if code
// is 0. Only the first call has an effect. The backend has Route.LingerTimeout
// from then on.
func (c *clientEnd) end(code ws.StatusCode, reason, cause string) {
	if c.claim(cause) {
		c.close(code, reason)
	}
}

// claim reports whether this is the first cause to end the connection, and keeps
// it.
func (c *clientEnd) claim(cause string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		return false
	}
	c.cause = cause
	c.sendingOver.Store(true)
	return true
}

// close closes the WebSocket in a goroutine of its own.
func (c *clientEnd) close(code ws.StatusCode, reason string) {
	go func() {
		defer close(c.finished)
		if code == 0 {
			c.conn.CloseNow()
		} else {
			c.conn.Close(code, reason)
		}
		c.after(c.settings.LingerTimeout, c.backend.Abort)
	}()
}

// after calls f after d unless the relay has ended by then.
func (c *clientEnd) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.timers = append(c.timers, time.AfterFunc(d, f))
	}
}

// Close closes the WebSocket and waits for that.
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

// ending returns why the connection ended, for the log.
func (c *clientEnd) ending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}
