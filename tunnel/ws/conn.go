// Package ws is WebSocket (RFC 6455): accepting over HTTP/1.1 and HTTP/2, framing, and the closing
// handshake. Messages are streamed: neither assembled when read nor split when written. Clients are
// made by package dial.
package ws

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"adit/tunnel"
)

// Opcode is the type of a data message, RFC 6455 section 5.2.
type Opcode byte

// The two types of data message.
const (
	OpText   Opcode = 1
	OpBinary Opcode = 2
)

// The other opcodes never reach a caller.
const (
	opContinuation = 0
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maxControlPayload is the longest payload of a control frame, RFC 6455
// section 5.5.
const maxControlPayload = 125

// readBufferSize is all that an idle connection keeps for reading. It takes
// headers, control frames and small payloads; larger reads go around it.
const readBufferSize = 4096

// DefaultCloseTimeout is Options.CloseTimeout when that is zero.
const DefaultCloseTimeout = time.Second

// Options tunes a Conn. The zero value is useful. Messages of any length
// are taken: they are streamed and never buffered.
type Options struct {
	// ValidateUTF8 checks inbound text messages byte by byte as they arrive
	// and fails the connection with 1007 at the first byte that cannot be
	// UTF-8 (RFC 6455 section 8.1). Without it text is passed on unchecked,
	// which only suits a peer that is known to send binary.
	ValidateUTF8 bool

	// LatestPongOnly answers only the newest ping that is not yet answered
	// (RFC 6455 section 5.5.3 allows it), so that the reader never waits for
	// the writer.
	LatestPongOnly bool

	// CloseTimeout bounds each of the two halves of Close: sending our Close
	// frame and waiting for the peer's, then waiting for the end of the TCP
	// connection. Zero means DefaultCloseTimeout.
	CloseTimeout time.Duration
}

// Conn is one end of a WebSocket connection. It streams: a message is neither
// assembled when read nor split when written.
//
// One goroutine reads (NextMessage, Read); any number may write, and may call
// every other method. Something must be reading for pings to be answered and
// for the peer's Close to be seen. Every Conn must end in Close or CloseNow.
type Conn struct {
	nc          net.Conn
	writeConn   func([]byte) (int, error) // nc.Write, or better
	client      bool                      // we mask, the peer must not
	zeroMask    bool                      // we mask with key zero: the payload is left alone
	opts        Options
	subprotocol string
	onPong      func([]byte)

	lastRead atomic.Int64 // nanoseconds since clockBase

	// Reading, under readMu.
	readMu  sync.Mutex
	buf     []byte // bytes read ahead are buf[start:end]
	start   int
	end     int
	readErr error  // the peer's Close, or why we failed the connection
	inside  bool   // a message has begun and its end is not yet reached
	op      Opcode // of that message
	fin     bool   // the current frame is its last
	remain  int64  // payload bytes of the current frame still to come
	key     uint32 // mask of the current frame, turned to its next byte
	text    utf8Checker

	// Writing to nc, under writeMu.
	writeMu  sync.Mutex
	writeErr error // once a frame is cut short, nothing may follow
	scratch  []byte
	taken    []controlFrame // the queue while it is being written
	maskKey  [4]byte

	// Control frames that wait for a writer, under controlMu. It may be
	// taken while holding either lock above.
	controlMu   sync.Mutex
	queue       []controlFrame
	pongs       int       // in queue
	pings       int       // in queue
	room        sync.Cond // signalled when queue has been emptied
	closing     bool      // our Close frame is queued or sent: it was the last
	stuck       bool      // writing failed or the connection is gone
	flushing    bool      // the flusher goroutine runs
	interrupted bool      // by Interrupt
	closeBegun  bool      // Close has set its deadlines
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

// newConn takes over nc on which the opening handshake is done. br, which may
// be nil, may hold bytes that arrived behind the handshake; they are copied
// and br is not used again. client tells our role. secure says that nc is
// encrypted, which makes masks pointless: the client then uses key zero.
func newConn(nc net.Conn, br *bufio.Reader, client bool, secure bool, opts Options) *Conn {
	if opts.CloseTimeout <= 0 {
		opts.CloseTimeout = DefaultCloseTimeout
	}
	c := &Conn{nc: nc, writeConn: tunnel.MessageWriter(nc), client: client, zeroMask: client && secure, opts: opts}
	c.room.L = &c.controlMu
	early := 0
	if br != nil {
		early = br.Buffered()
	}
	c.buf = make([]byte, max(readBufferSize, early))
	if early > 0 {
		// Peek of what is buffered cannot fail.
		b, _ := br.Peek(early)
		c.end = copy(c.buf, b)
	}
	c.touch()
	return c
}

// clockBase makes a time that carries a monotonic reading out of a number
// that fits an atomic.
var clockBase = time.Now()

func (c *Conn) touch() { c.lastRead.Store(int64(time.Since(clockBase))) }

// LastRead returns when the last byte arrived from the peer, of whatever
// kind; at first, when the connection was made. The time has a monotonic
// reading.
func (c *Conn) LastRead() time.Time {
	return clockBase.Add(time.Duration(c.lastRead.Load()))
}

// OnPong sets f to be called by the reading goroutine for each pong. The
// payload is only valid during the call. f must be quick and must not call
// Read, NextMessage, Close or CloseNow. OnPong must be called before the
// first read.
func (c *Conn) OnPong(f func(payload []byte)) { c.onPong = f }

// NetConn returns the connection beneath, for deadlines and socket options.
// A read that ends by a deadline may be repeated without loss; a write that
// does may not. Interrupt and StopReadingAfter set deadlines, too.
func (c *Conn) NetConn() net.Conn { return c.nc }

// LocalAddr returns our address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Subprotocol returns the subprotocol agreed upon, or "".
func (c *Conn) Subprotocol() string { return c.subprotocol }
