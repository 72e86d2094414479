// Package ws is WebSocket (RFC 6455): accepting over HTTP/1.1 and HTTP/2, framing, and the closing
// handshake. It streams messages: they are neither assembled when read nor split when written.
// Package dial opens connections as a client.
package ws

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Opcode is the type of a data message, RFC 6455 section 5.2.
type Opcode byte

// The two types of data message.
const (
	OpText   Opcode = 1
	OpBinary Opcode = 2
)

// The other opcodes, which no caller sees.
const (
	opContinuation = 0
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maxControlPayload is the longest payload of a control frame (RFC 6455, section 5.5).
const maxControlPayload = 125

// readBufferSize is the size of the buffer that an idle connection keeps for reading. Headers, control
// frames and small payloads go through it; larger reads bypass it.
const readBufferSize = 4096

// DefaultCloseTimeout is the value of Options.CloseTimeout if that is zero.
const DefaultCloseTimeout = time.Second

// Options tunes a Conn. The zero value is ready to use. Messages have no maximal length, because they
// are streamed and never buffered.
type Options struct {
	// ValidateUTF8 checks received text messages as they arrive and fails the connection with 1007 at
	// the first byte that cannot be UTF-8 (RFC 6455, section 8.1). Without it text is not checked;
	// that suits only a peer that is known to send binary messages.
	ValidateUTF8 bool

	// LatestPongOnly answers only the newest of several unanswered pings (RFC 6455, section 5.5.3,
	// allows it), so that a reader never waits for a writer.
	LatestPongOnly bool

	// CloseTimeout bounds each of the two halves of Close: first sending our Close frame and waiting
	// for the peer's, then waiting for the end of the TCP connection. Zero and less mean
	// DefaultCloseTimeout.
	CloseTimeout time.Duration
}

// A Conn is one end of a WebSocket connection.
//
// One goroutine at a time reads (NextMessage, Read, and the methods of stream.go). Any number may
// write, and any goroutine may call every other method. Pings are answered and the peer's Close frame
// is seen only while a goroutine reads. Every Conn must end in Close or CloseNow.
type Conn struct {
	nc          net.Conn
	client      bool // we mask, the peer must not
	zeroMask    bool // we mask with key zero, which changes nothing
	opts        Options
	subprotocol string
	onPong      func([]byte)

	lastRead atomic.Int64 // in nanoseconds since clockBase

	// Reading, guarded by readMu.
	readMu  sync.Mutex
	buf     []byte // bytes read ahead are buf[start:end]
	start   int
	end     int
	readErr error  // the peer's Close frame, or why we failed the connection
	inside  bool   // a message has begun, and its end is not yet reached
	op      Opcode // of that message
	fin     bool   // the current frame is the last of the message
	remain  int64  // payload bytes of the current frame still to come
	key     uint32 // mask of the current frame, rotated to its next byte
	text    utf8Checker

	// Writing to nc, guarded by writeMu.
	writeMu  sync.Mutex
	writeErr error // a frame was cut short: nothing may follow it
	scratch  []byte
	taken    []controlFrame // the queue while it is being written
	maskKey  [4]byte

	// Control frames that wait for a writer, and the end, guarded by controlMu. It may be taken while
	// readMu or writeMu is held.
	controlMu   sync.Mutex
	queue       []controlFrame
	pongs       int       // in queue
	pings       int       // in queue
	room        sync.Cond // signaled when queue has been emptied
	closing     bool      // our Close frame is queued or sent: nothing may follow it
	stuck       bool      // writing failed, or the connection is closed
	flushing    bool      // the flusher goroutine runs
	interrupted bool      // by Interrupt
	closeBegun  bool      // Close sets the deadlines of nc
	flusher     sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

// Client takes over nc, on which the opening handshake of a client is done. br, which may be nil,
// may hold bytes that arrived behind the handshake; they are copied and br is not used again. secure
// says that nc is encrypted, so that no middlebox can read it: the masks that a client must send are
// then zero.
func Client(nc net.Conn, br *bufio.Reader, secure bool, o Options) *Conn {
	return newConn(nc, br, true, secure, o)
}

// newConn is Client for either role.
func newConn(nc net.Conn, br *bufio.Reader, client bool, secure bool, opts Options) *Conn {
	if opts.CloseTimeout <= 0 {
		opts.CloseTimeout = DefaultCloseTimeout
	}
	c := &Conn{nc: nc, client: client, zeroMask: client && secure, opts: opts}
	c.room.L = &c.controlMu
	early := 0
	if br != nil {
		early = br.Buffered()
	}
	c.buf = make([]byte, max(readBufferSize, early))
	if early > 0 {
		b, _ := br.Peek(early) // it is buffered: this cannot fail
		c.end = copy(c.buf, b)
	}
	c.touch()
	return c
}

// clockBase is the zero of times that are kept in an atomic. Added to it, they have a monotonic
// reading.
var clockBase = time.Now()

func (c *Conn) touch() { c.lastRead.Store(int64(time.Since(clockBase))) }

// LastRead returns when the last byte of any kind arrived from the peer; at first, when the Conn was
// made. The time has a monotonic reading.
func (c *Conn) LastRead() time.Time {
	return clockBase.Add(time.Duration(c.lastRead.Load()))
}

// OnPong sets the function that the reading goroutine calls for each pong. The payload is valid only
// during the call. f must be quick and must not call Read, NextMessage, Close or CloseNow. OnPong must
// be called before the first read.
func (c *Conn) OnPong(f func(payload []byte)) { c.onPong = f }

// NetConn returns the connection beneath, for socket options and deadlines. A read that ends by a
// deadline may be repeated without loss; a write may not. Interrupt, StopReadingAfter,
// StopWritingAfter and Close set deadlines, too.
func (c *Conn) NetConn() net.Conn { return c.nc }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Subprotocol returns the subprotocol that was agreed on, or "".
func (c *Conn) Subprotocol() string { return c.subprotocol }

// A controlFrame is a control frame that waits to be written. All writers, and the flusher goroutine
// if there is none, write the queue before anything else.
type controlFrame struct {
	op      byte
	length  uint8
	payload [maxControlPayload]byte
}
