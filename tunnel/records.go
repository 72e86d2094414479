package tunnel

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// recordConn is a connection beneath TLS. By itself crypto/tls writes each
// record, of at most 16 KiB, with a system call of its own, and reads little
// more than one or two. Here the records of one message gather and leave
// together, and where records arrive faster than they are read, many are read
// at once. Both buffers are taken from pools while they are needed: an idle
// connection has none.
type recordConn struct {
	net.Conn

	// Reading, which crypto/tls does under a lock of its own.
	raw   syscall.RawConn       // of a bare socket; nil: nothing is read ahead
	try   func(fd uintptr) bool // readAhead, bound once
	ahead *aheadBuffer          // ahead[start:end] is still to be given out
	start int
	end   int
	more  bool  // the last read filled its buffer
	fault error // of try

	// Writing.
	mu        sync.Mutex
	gathering bool
	out       *gatherBuffer // out[:held] waits to be written
	held      int
	writeErr  error // a record was cut short: nothing may follow it
}

const (
	// maxPlaintext is what one record carries at most (RFC 8446, section 5.1).
	maxPlaintext = 16 << 10
	// aheadSize is how much is read at once.
	aheadSize = 128 << 10
	// gatherSize holds the records of one relay buffer and its headers, each
	// with up to 256 bytes around it.
	gatherSize = (BufferSize/maxPlaintext + 1) * (maxPlaintext + 256)
	// worthGathering is what may take several records: crypto/tls begins with
	// records that fit a packet.
	worthGathering = 1 << 10
	// worthAhead is the smallest read that, when it was filled, makes the next
	// one larger.
	worthAhead = 8 << 10
)

type (
	aheadBuffer  [aheadSize]byte
	gatherBuffer [gatherSize]byte
)

var (
	aheadBuffers  = sync.Pool{New: func() any { return new(aheadBuffer) }}
	gatherBuffers = sync.Pool{New: func() any { return new(gatherBuffer) }}
)

// newRecordConn is for TLS over nc, which it takes over.
func newRecordConn(nc net.Conn) *recordConn {
	c := &recordConn{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok && canReadAhead {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.try = raw, c.readAhead
		}
	}
	return c
}

// ListenTLS returns a listener for tls.NewListener, or what is between the
// two, whose connections let a Conn read and write many TLS records with one
// system call.
func ListenTLS(ln net.Listener) net.Listener { return recordListener{ln} }

type recordListener struct{ net.Listener }

func (l recordListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newRecordConn(nc), nil
}

// recordsBelow finds the recordConn right beneath the TLS of nc, or nil.
func recordsBelow(nc net.Conn) *recordConn {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	nc = t.NetConn()
	for {
		switch c := nc.(type) {
		case *recordConn:
			return c
		case *tls.Conn:
			return nil // another TLS
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return nil
		}
	}
}

func (c *recordConn) Read(p []byte) (int, error) {
	if c.ahead == nil {
		if !c.more {
			n, err := c.Conn.Read(p)
			c.more = c.raw != nil && n == len(p) && n >= worthAhead
			return n, err
		}
		if err := c.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ahead[c.start:c.end])
	c.start += n
	if c.start == c.end {
		aheadBuffers.Put(c.ahead)
		c.ahead = nil
	}
	return n, nil
}

// gather writes b to t, whose connection c is, with few system calls. Only one
// goroutine may call it at a time; t may be written to by others.
func (c *recordConn) gather(t net.Conn, b []byte) error {
	c.mu.Lock()
	c.gathering = true
	c.mu.Unlock()
	_, err := t.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = false
	if flushErr := c.flush(); err == nil {
		err = flushErr
	}
	if c.out != nil {
		gatherBuffers.Put(c.out)
		c.out = nil
	}
	return err
}

// Write is called by crypto/tls, with a record.
func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gathering || len(p) > gatherSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
		return c.Conn.Write(p)
	}
	if c.held+len(p) > gatherSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if c.out == nil {
		c.out = gatherBuffers.Get().(*gatherBuffer)
	}
	c.held += copy(c.out[c.held:], p)
	return len(p), nil
}

// flush writes what has gathered. mu is held.
func (c *recordConn) flush() error {
	if c.writeErr != nil || c.held == 0 {
		return c.writeErr
	}
	_, c.writeErr = c.Conn.Write(c.out[:c.held])
	c.held = 0
	return c.writeErr
}

// NetConn returns the connection below, as that of crypto/tls does.
func (c *recordConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending direction, down to TCP.
func (c *recordConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}

// Close closes the socket at once, without waiting to send the alerts of
// another TLS below.
func (c *recordConn) Close() error { return rawConn(c.Conn).Close() }
