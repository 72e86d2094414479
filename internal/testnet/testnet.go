// Package testnet is the environment of tests, in this process and on loopback:
// a CA, an HTTP proxy, a SOCKS5 proxy, a DNS server, and a TCP relay that
// injects faults. t.Cleanup closes everything and waits for the goroutines.
package testnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Listen returns a TCP listener on a free port of 127.0.0.1.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testnet: listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// RefusedAddr returns a loopback HOST:PORT that refuses connections. It is the
// local address of an open connection, so that no other process gets the port.
func RefusedAddr(t testing.TB) string {
	t.Helper()
	c, err := net.Dial("tcp", Listen(t).Addr().String())
	if err != nil {
		t.Fatalf("testnet: dial: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// Serve accepts connections on a free port of 127.0.0.1 and returns the
// address. Each connection is passed to handle in its own goroutine and closed
// when handle returns.
func Serve(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	s := newServer(t, Listen(t))
	s.start(handle)
	return s.addr
}

// Reply starts a server of a wrong protocol and returns its address: after the
// first bytes of a connection it writes the texts, each in one write, and then
// reads until the client ends.
func Reply(t testing.TB, texts ...string) string {
	t.Helper()
	return Serve(t, func(c net.Conn) {
		b := make([]byte, 4096)
		if _, err := c.Read(b); err != nil {
			return
		}
		for _, s := range texts {
			if _, err := c.Write([]byte(s)); err != nil {
				return
			}
		}
		drain(c)
	})
}

// Silent starts a server that reads and never writes, and returns its address.
func Silent(t testing.TB) string {
	t.Helper()
	return Serve(t, drain)
}

// Echo starts an echo server and returns its address. It closes a connection
// when the client has finished sending.
func Echo(t testing.TB) string {
	t.Helper()
	return Serve(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if n > 0 {
				if _, werr := c.Write(b[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
}

// drain reads until the peer ends the connection.
func drain(c net.Conn) {
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// server owns a listener, its connections and their goroutines.
type server struct {
	addr   string
	handle func(net.Conn)
	wg     sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	ln    net.Listener // nil while a Fault is down
	conns map[net.Conn]bool
	ended bool
}

// newServer returns a server that does not accept yet: the caller stores it
// where handle expects it, and then calls start.
func newServer(t testing.TB, ln net.Listener) *server {
	s := &server{addr: ln.Addr().String(), ln: ln, conns: map[net.Conn]bool{}}
	t.Cleanup(s.close)
	return s
}

func (s *server) start(handle func(net.Conn)) {
	s.handle = handle
	ln := s.ln
	s.wg.Go(func() { s.accept(ln) })
}

func (s *server) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		if !s.track(c) {
			c.Close()
			return
		}
		s.wg.Go(func() {
			defer s.release(c)
			s.handle(c)
		})
	}
}

// track makes close also close c. It returns false if close has been called.
func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.conns[c] = true
	return true
}

// dial connects to a backend and tracks the connection. The caller must release
// it.
func (s *server) dial(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err == nil && !s.track(c) {
		c.Close()
		err = net.ErrClosed
	}
	return c, err
}

func (s *server) release(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (s *server) close() {
	s.mu.Lock()
	s.ended = true
	if s.ln != nil {
		s.ln.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// relay copies in both directions between a and b, half-closes included, until
// both directions have ended or one has failed.
func relay(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(dst, src net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				if _, werr := dst.Write(buf[:n]); werr != nil {
					a.Close()
					b.Close()
					return
				}
			}
			if err != nil {
				if !isEOF(err) {
					a.Close()
					b.Close()
				} else {
					closeWrite(dst)
				}
				return
			}
		}
	}
	wg.Go(func() { one(a, b) })
	one(b, a)
	wg.Wait()
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
	}
}
