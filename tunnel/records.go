package tunnel

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// recordConn is a connection as it is beneath TLS, or without. By itself crypto/tls writes each
// record, of at most 16 KiB, with a system call of its own, and the system sends
// each at once. Here it is told when more will follow, and sends the records
// of one message in packets as large as the path takes.
type recordConn struct {
	net.Conn
	bytes     io.ReadWriter             // Conn, or better
	writeMore func([]byte) (int, error) // is Write, but more follows; may be nil

	mu       sync.Mutex
	left     int   // of a message that is being written: at most so much is still to come
	writeErr error // a record was cut short: nothing may follow it
}

const (
	// maxPlaintext is what one record carries at most (RFC 8446, section 5.1).
	maxPlaintext = 16 << 10
	// minOverhead is the least that a record adds to what it carries: a header
	// and a tag (RFC 7905, section 2).
	minOverhead = 5 + 16
	// worthHolding is what may take several records: crypto/tls begins with
	// records that fit a packet.
	worthHolding = 1 << 10
)

// FastConn takes over nc, a socket, with or without TLS to come above it, and returns a connection
// that reads and writes by the socket fast path (see rawConn). What MessageWriter writes by way of
// that TLS leaves in few packets.
func FastConn(nc net.Conn) net.Conn { return newRecordConn(nc) }

func newRecordConn(nc net.Conn) *recordConn {
	c := &recordConn{Conn: nc, bytes: readWriter(nc)}
	if w, ok := c.bytes.(interface {
		WriteMore([]byte) (int, error)
	}); ok {
		c.writeMore = w.WriteMore
	}
	return c
}

// FastListener returns a listener whose connections are those of FastConn. Another may wrap it, such
// as that of tls.NewListener.
func FastListener(ln net.Listener) net.Listener { return recordListener{ln} }

type recordListener struct{ net.Listener }

func (l recordListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newRecordConn(nc), nil
}

// MessageWriter returns the best way to write a whole message to nc: where FastConn is right beneath
// the TLS of nc, the records of the message leave in few packets. Only one goroutine may call the
// function at a time; nc may be written to by others.
func MessageWriter(nc net.Conn) func([]byte) (int, error) {
	c := recordsBelow(nc)
	if c == nil {
		return nc.Write
	}
	return func(b []byte) (int, error) {
		if len(b) <= worthHolding {
			return nc.Write(b)
		}
		return c.message(nc, b)
	}
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

func (c *recordConn) Read(p []byte) (int, error) { return c.bytes.Read(p) }

// message writes b to t, whose connection c is, in few packets. Only one
// goroutine may call it at a time; t may be written to by others.
func (c *recordConn) message(t net.Conn, b []byte) (int, error) {
	c.expect(len(b))
	n, err := t.Write(b)
	c.expect(0)
	return n, err
}

func (c *recordConn) expect(n int) {
	c.mu.Lock()
	c.left = n
	c.mu.Unlock()
}

// Write is called by crypto/tls, with a record.
func (c *recordConn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	if c.left > 0 {
		c.left -= len(p) - minOverhead
	}
	if c.left > 0 && c.writeMore != nil {
		n, err = c.writeMore(p)
	} else {
		n, err = c.bytes.Write(p)
	}
	c.writeErr = err
	return n, err
}

// NetConn returns the connection below, as that of crypto/tls does.
func (c *recordConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending direction, down to TCP.
func (c *recordConn) CloseWrite() error {
	CloseWrite(c.Conn)
	return nil
}

// Close closes the socket at once, without waiting to send the alerts of
// another TLS below.
func (c *recordConn) Close() error { return CloseNow(c.Conn) }
