package link

import (
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

// writeErrorLocked stops writing to c after a write error, and reads for a
// little longer: the peer's close message may explain it. link.mu is held.
func (c *connection) writeErrorLocked() {
	c.writeFailed = true
	c.conn.StopReadingAfter(readAfterWriteError)
}
