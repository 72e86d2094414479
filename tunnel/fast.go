package tunnel

import (
	"io"
	"net"
	"sync"
)

// A fastConn is a socket, beneath TLS or without it, that is read and written by the socket fast path
// (see rawConn).
type fastConn struct {
	net.Conn
	bytes io.ReadWriter // the socket fast path, or Conn

	mu       sync.Mutex
	writeErr error // a TLS record was cut short: nothing may follow it
}

// FastConn takes over nc, a socket, whether TLS is to come above it or not, and returns a connection
// that reads and writes by the socket fast path.
func FastConn(nc net.Conn) net.Conn { return &fastConn{Conn: nc, bytes: readWriter(nc)} }

// FastListener returns a listener whose connections are those of FastConn. Another listener may wrap
// it, such as that of tls.NewListener.
func FastListener(ln net.Listener) net.Listener { return fastListener{ln} }

type fastListener struct{ net.Listener }

func (l fastListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return FastConn(nc), nil
}

func (c *fastConn) Read(p []byte) (int, error) { return c.bytes.Read(p) }

// Write writes all of p, or fails, and then so do all later writes: crypto/tls would still send an
// alert.
func (c *fastConn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	n, c.writeErr = c.bytes.Write(p)
	return n, c.writeErr
}

// NetConn returns the connection beneath, as that of crypto/tls does.
func (c *fastConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends our direction, down to TCP.
func (c *fastConn) CloseWrite() error {
	CloseWrite(c.Conn)
	return nil
}

// Close closes the socket at once, without waiting to send the alerts of another TLS beneath.
func (c *fastConn) Close() error { return CloseNow(c.Conn) }
