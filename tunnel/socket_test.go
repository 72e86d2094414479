package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// socketWatchdog bounds everything that a test waits for.
const socketWatchdog = 30 * time.Second

// streamConn is a TCP or unix connection.
type streamConn interface {
	net.Conn
	CloseWrite() error
}

var networks = []string{"tcp", "unix"}

// socketPair returns the two ends of a connection.
func socketPair(t testing.TB, network string) (ours *Socket, peer streamConn) {
	t.Helper()
	x, y := testnet.Pair(t, network)
	return NewSocket(x), y.(streamConn)
}

// vanish ends a connection with a reset. A unix socket must have unread data for that.
func vanish(c net.Conn) {
	if tc, ok := c.(interface{ SetLinger(int) error }); ok {
		tc.SetLinger(0)
	}
	c.Close()
}

// inTime calls f and fails the test if it does not return within socketWatchdog.
func inTime[T any](t testing.TB, what string, f func() T) T {
	t.Helper()
	c := make(chan T, 1)
	go func() { c <- f() }()
	select {
	case v := <-c:
		return v
	case <-time.After(socketWatchdog):
		t.Fatalf("%s takes more than %v", what, socketWatchdog)
		panic("unreachable")
	}
}

// read1 reads a byte with ReadBuffer.
func read1(s *Socket) (byte, error) {
	b, n, err := s.ReadBuffer(1)
	if b == nil {
		if n != 0 || err == nil {
			return 0, fmt.Errorf("%d bytes in no buffer: %w", n, err)
		}
		return 0, err
	}
	defer b.Free()
	if n != 1 || err != nil {
		return 0, fmt.Errorf("%d bytes: %w", n, err)
	}
	return b.Bytes[BufferHeadroom], nil
}

func TestSocketReadBuffer(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			s, peer := socketPair(t, network)
			type result struct {
				b   byte
				err error
			}
			read := func() result {
				b, err := read1(s)
				return result{b, err}
			}
			waiting := make(chan result, 1)
			go func() { waiting <- read() }()
			peer.Write([]byte("ab"))
			if got := inTime(t, "ReadBuffer", func() result { return <-waiting }); got != (result{'a', nil}) {
				t.Fatal(got)
			}
			if got := inTime(t, "ReadBuffer", read); got != (result{'b', nil}) {
				t.Fatal(got)
			}
			peer.CloseWrite()
			for range 2 {
				if got := inTime(t, "ReadBuffer", read); got.err != io.EOF {
					t.Fatal(got)
				}
			}
			s.Close()
			if got := read(); got.err == nil || got.err == io.EOF {
				t.Fatalf("of a closed connection: %v", got)
			}
		})
	}
}

func TestSocketReadBufferUnblocked(t *testing.T) {
	for name, unblock := range map[string]func(*Socket){
		"abort":    func(s *Socket) { s.Abort() },
		"close":    func(s *Socket) { s.Close() },
		"deadline": func(s *Socket) { s.SetReadDeadline(time.Unix(1, 0)) },
	} {
		s, _ := socketPair(t, "tcp")
		waiting := make(chan error, 1)
		go func() {
			_, err := read1(s)
			waiting <- err
		}()
		unblock(s)
		err := inTime(t, "ReadBuffer", func() error { return <-waiting })
		if err == nil || err == io.EOF || name == "deadline" && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A reset is reported as such by every method that can meet it first.
func TestSocketReset(t *testing.T) {
	for _, network := range networks {
		for name, meet := range map[string]func(*Socket) error{
			"ReadBuffer": func(s *Socket) error { _, err := read1(s); return err },
			"Read":       func(s *Socket) error { _, err := s.Read(make([]byte, 1)); return err },
			"after a Write": func(s *Socket) error {
				for s.Alive() == nil {
					time.Sleep(time.Millisecond)
				}
				s.Write([]byte("x")) // consumes the pending error
				_, err := s.Read(make([]byte, 1))
				return err
			},
		} {
			t.Run(network+"/"+name, func(t *testing.T) {
				s, peer := socketPair(t, network)
				if network == "unix" {
					if name == "after a Write" {
						t.Skip("a unix socket keeps its peer's address")
					}
					s.Write([]byte("unread"))
				}
				if err := s.Alive(); err != nil {
					t.Fatal(err)
				}
				vanish(peer)
				if err := inTime(t, name, func() error { return meet(s) }); !errors.Is(err, syscall.ECONNRESET) {
					t.Fatal(err)
				}
			})
		}
	}
}

// After an orderly end, with unread data before it, Alive returns nil.
func TestSocketAlive(t *testing.T) {
	for _, network := range networks {
		s, peer := socketPair(t, network)
		peer.Write([]byte("unread"))
		peer.CloseWrite()
		testnet.AwaitReadable(t, s.Conn)
		if err := s.Alive(); err != nil {
			t.Errorf("%s: %v", network, err)
		}
		if b, err := io.ReadAll(s); string(b) != "unread" || err != nil {
			t.Errorf("%s: %q, %v", network, b, err)
		}
		s.Close()
		if s.Alive() == nil {
			t.Errorf("%s: a closed connection is alive", network)
		}
	}
}

// Abort resets and Close ends a connection, and either may follow the other.
func TestSocketAbortAndClose(t *testing.T) {
	s, peer := socketPair(t, "tcp")
	s.Write([]byte("x"))
	s.Abort()
	s.Abort()
	s.Close()
	_, err := io.Copy(io.Discard, peer)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	s, peer = socketPair(t, "tcp")
	s.Write([]byte("x"))
	s.Close()
	s.Abort()
	if b, err := io.ReadAll(peer); string(b) != "x" || err != nil {
		t.Fatal(string(b), err)
	}
}

// If both sides end their directions at the same time, both read an end and not a reset.
func TestSocketSimultaneousEnd(t *testing.T) {
	for range 300 {
		s, peer := socketPair(t, "tcp")
		o := NewSocket(peer)
		done := make(chan error, 4)
		for _, e := range []*Socket{s, o} {
			go func() { done <- e.CloseWrite() }()
			go func() { _, err := io.Copy(io.Discard, struct{ io.Reader }{e}); done <- err }()
		}
		for range 4 {
			if err := inTime(t, "end", func() error { return <-done }); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		o.Close()
	}
}

// A Socket over a connection that is not a socket works, with fewer capabilities.
func TestSocketOfTLS(t *testing.T) {
	s, _ := socketPair(t, "tcp")
	c := NewSocket(tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true}))
	if err := c.Alive(); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := read1(c)
		read <- err
	}()
	c.Abort()
	if err := inTime(t, "ReadBuffer", func() error { return <-read }); err == nil || err == io.EOF {
		t.Fatal(err)
	}
}
