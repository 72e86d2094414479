package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestDialCodes(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	ln, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, Config{DialTimeout: 500 * time.Millisecond, Resolver: hangingResolver(t)},
		Access{Users: users(t, user("alice", "*:*", "unix:"+dir+"/*"))})
	m := g.session(t, "alice")
	for _, c := range []struct {
		to   mux.Target
		want mux.Code
	}{
		{tcp(testnet.RefusedAddr(t)), mux.Refused},
		{tcp(blackhole(t)), mux.Timeout},
		{tcp("no.such.test:1"), mux.NotFound},
		{tcp("broken.test:1"), mux.Failed},
		{tcp("silent.test:1"), mux.Timeout},
		{unix(dir + "/missing.sock"), mux.NotFound},
		{unix(dead), mux.Refused},
		{unix(plain), mux.Refused},
		{unix(dir + "/" + strings.Repeat("x", 200)), mux.Failed},
	} {
		_, err := open(t, m, c.to)
		var refused *mux.RefusedError
		if !errors.As(err, &refused) || refused.Code != c.want {
			t.Errorf("%s: %v, want %v", c.to, err, c.want)
			continue
		}
		if refused.Reason == "" || strings.Contains(refused.Reason, "127.0.0.1") || strings.Contains(refused.Reason, dir) {
			t.Errorf("%s: the reason is %q", c.to, refused.Reason)
		}
	}
	mustEcho(t, mustOpen(t, m, tcp(testnet.Echo(t))))
}

// hangingResolver is testnet.NewResolver for names that get no answer: package net
// continues a lookup after it was abandoned, but not after the test.
func hangingResolver(t *testing.T) *net.Resolver {
	r := testnet.NewResolver(t, nil)
	dial := r.Dial
	var mu sync.Mutex
	var conns []net.Conn
	over := false
	r.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		c, err := dial(ctx, network, address)
		if err == nil {
			conns = append(conns, c)
		}
		return c, err
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, c := range conns {
			c.Close()
		}
	})
	return r
}

// A client that goes away ends the connection attempt.
func TestDialCancelled(t *testing.T) {
	g := start(t, Config{DialTimeout: time.Hour, Resolver: hangingResolver(t)}, Access{Users: users(t, user("alice", "*:*"))})
	m := g.session(t, "alice")
	for i, to := range []mux.Target{tcp(blackhole(t)), tcp("silent.test:1")} {
		st, err := m.Open(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the dial has begun", func() bool { return g.numStreams() == 1 })
		st.Reset(mux.Cancelled)
		st.Close()
		g.log.Wait(t, i+1, "level=DEBUG", "stream refused", "code=cancelled")
		eventually(t, "the stream is gone", func() bool { return g.numStreams() == 0 })
	}
	if _, err := m.Open(t.Context(), tcp(blackhole(t))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dial has begun", func() bool { return g.numStreams() == 1 })
	m.Close()
	g.log.Wait(t, 1, "session closed")
	g.log.Wait(t, 3, "stream refused", "code=cancelled")
}

// numStreams counts the streams of all sessions.
func (s *Server) numStreams() (n int) {
	for _, x := range s.tunnel.sessions.some(-1) {
		n += x.mux.NumStreams()
	}
	return n
}

func (s *Server) numSessions() int {
	return len(s.tunnel.sessions.some(-1))
}

func TestMaxStreams(t *testing.T) {
	g := start(t, Config{}, Access{MaxStreams: 2, Users: users(t, user("alice", "*:*"))})
	echo := tcp(testnet.Echo(t))
	m := g.session(t, "alice")
	first, second := mustOpen(t, m, echo), mustOpen(t, m, echo)
	wantCode(t, m, echo, mux.Busy)
	mustEcho(t, first)
	mustEcho(t, second)
	first.Close()
	eventually(t, "the stream is gone", func() bool { return g.numStreams() == 1 })
	mustEcho(t, mustOpen(t, m, echo))
}

// Half-close and resets pass from end to end, in both directions.
func TestStreamEnds(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	m := g.session(t, "alice")
	t.Run("half-close", func(t *testing.T) {
		answer := testnet.Serve(t, func(c net.Conn) {
			b, err := io.ReadAll(c) // until the client ends its direction
			fmt.Fprintf(c, "%s %v", b, err)
		})
		st := mustOpen(t, m, tcp(answer))
		st.Write([]byte("question"))
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(st); err != nil || string(b) != "question <nil>" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("reset by the target", func(t *testing.T) {
		resetting := testnet.Serve(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
		})
		st := mustOpen(t, m, tcp(resetting))
		st.Write([]byte("x"))
		if _, err := io.ReadAll(st); !isReset(err) {
			t.Errorf("%v", err)
		}
	})
	t.Run("reset by the client", func(t *testing.T) {
		got := make(chan error, 1)
		waiting := testnet.Serve(t, func(c net.Conn) {
			_, err := io.ReadAll(c)
			got <- err
		})
		mustOpen(t, m, tcp(waiting)).Abort()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
	t.Run("session lost", func(t *testing.T) {
		got := make(chan error, 1)
		waiting := testnet.Serve(t, func(c net.Conn) {
			_, err := io.ReadAll(c)
			got <- err
		})
		m := g.session(t, "alice")
		mustOpen(t, m, tcp(waiting))
		m.Close()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
}

// A target whose name has many addresses is reached at the one that answers.
func TestSecondAddress(t *testing.T) {
	echo := testnet.Echo(t)
	resolver := testnet.NewResolver(t, map[string][]netip.Addr{
		"two.test": {netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")},
	})
	g := start(t, Config{Resolver: resolver}, Access{Users: users(t, user("alice", "two.test:*"), user("bob", "127.0.0.1:*"))})
	mustEcho(t, mustOpen(t, g.session(t, "alice"), tcp("two.test"+port(t, echo))))
	mustEcho(t, mustOpen(t, g.session(t, "bob"), tcp("two.test"+port(t, echo))))
}

// A client that breaks the protocol after the upgrade is refused.
func TestBadSession(t *testing.T) {
	g := start(t, Config{Mux: mux.Config{HandshakeTimeout: 200 * time.Millisecond}}, Access{Users: users(t, user("alice", "*:*"))})
	for _, say := range [][]byte{nil, {}, {1}, []byte("hello"), {1, 1, 9, 255, 255}, {1, 1}, make([]byte, 5000)} {
		conn, err := dial.Dial(t.Context(), g.url(), g.dialer("alice"))
		if err != nil {
			t.Fatal(err)
		}
		if say != nil {
			conn.WriteMessage(ws.OpBinary, say)
		}
		if _, err := conn.NextMessage(); err == nil {
			t.Errorf("%q is answered", say)
		}
		conn.CloseNow()
	}
	g.log.Wait(t, 7, "session refused", "user=alice")
	g.session(t, "alice")
}
