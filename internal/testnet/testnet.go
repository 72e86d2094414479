// Package testnet has the surroundings that tests of a tunnel need, all in
// this process and on loopback: a throw-away CA, an HTTP proxy, a SOCKS5
// proxy, a name server, and a TCP relay that can be made to fail. Everything
// is released by t.Cleanup, which waits for the goroutines it ends.
//
// It is for tests only.
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

// RefusedAddr returns a loopback HOST:PORT where nothing listens. It is the
// local end of a connection, so that nobody else gets the port meanwhile.
func RefusedAddr(t testing.TB) string {
	t.Helper()
	c, err := net.Dial("tcp", Listen(t).Addr().String())
	if err != nil {
		t.Fatalf("testnet: dial: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// Serve accepts connections on a free port of 127.0.0.1, runs handle for each
// in a goroutine of its own, and closes the connection when it returns. It
// returns the address.
func Serve(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	s := newServer(t, Listen(t))
	s.start(handle)
	return s.addr
}

// Reply serves connections by writing each of the texts, one after the other,
// after the first bytes have come, and then waiting for the client's end. It
// is a server that answers in the wrong protocol.
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

// Silent accepts connections, reads what comes, and never answers.
func Silent(t testing.TB) string {
	t.Helper()
	return Serve(t, drain)
}

// Echo sends back what it reads, and ends its direction when the client ends
// its own.
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

	wg    sync.WaitGroup
	mu    sync.Mutex
	ln    net.Listener // nil while it is down
	conns map[net.Conn]bool
	ended bool
}

// newServer makes a server that start sets to work: in between, its owner
// keeps it where handle expects it.
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

// track makes close end c. It reports false when close has begun.
func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.conns[c] = true
	return true
}

// dial connects to a backend. Who calls it releases the connection, which close
// ends, too.
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

// relay copies both ways between a and b, passing ends of streams on, until
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
