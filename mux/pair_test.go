package mux

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newConns returns the two ends of a WebSocket over loopback TCP.
func newConns(t testing.TB) (client, server *ws.Conn) {
	t.Helper()
	return newConnsVia(t, func(addr string) string { return addr })
}

// newConnsVia is newConns with a relay between the two: via gets the server's
// address and returns the one to dial.
func newConnsVia(t testing.TB, via func(addr string) string) (client, server *ws.Conn) {
	t.Helper()
	return newConnsOn(t, func(*httptest.Server) {}, new(dial.Options), func(addr string) string { return "ws://" + via(addr) })
}

// newConnsOn returns the two ends of a WebSocket to a server that serve changes before
// it starts; url is what d dials where its address is addr.
func newConnsOn(t testing.TB, serve func(*httptest.Server), d *dial.Options, url func(addr string) string) (client, server *ws.Conn) {
	t.Helper()
	opts := ws.Options{LatestPongOnly: true}
	accepted := make(chan *ws.Conn, 1)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Accept(w, r, &ws.AcceptOptions{Conn: opts})
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}))
	serve(web)
	web.Start()
	t.Cleanup(web.Close)
	d.Conn = opts
	client, err := dial.Dial(t.Context(), url(web.Listener.Addr().String()), d)
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() {
		client.CloseNow()
		server.CloseNow()
	})
	return client, server
}

// newPair returns the two ends of a session over loopback TCP, closed when the
// test ends.
func newPair(t testing.TB, cfg *Config) (client, server *Session) {
	t.Helper()
	cc, sc := newConns(t)
	return newPairOn(t, cc, sc, cfg, cfg)
}

// newPairVia is newPair with a misbehaving path between the two.
func newPairVia(t testing.TB, cfg *Config) (client, server *Session, path *testnet.Fault) {
	t.Helper()
	cc, sc := newConnsVia(t, func(addr string) string {
		path = testnet.NewFault(t, addr)
		return path.Addr()
	})
	client, server = newPairOn(t, cc, sc, cfg, cfg)
	return client, server, path
}

func newPairOn(t testing.TB, cc, sc *ws.Conn, clientCfg, serverCfg *Config) (client, server *Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	made := make(chan error, 1)
	go func() {
		var err error
		server, err = Server(ctx, sc, serverCfg)
		made <- err
	}()
	client, err := Client(ctx, cc, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

var anywhere = Target{TCP, "target.example:1"}

// openPair returns the two ends of a connected stream.
func openPair(t testing.TB, client, server *Session) (near, far *Stream) {
	t.Helper()
	near, err := client.Open(context.Background(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	far, err = server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.ReadTarget(); err != nil {
		t.Fatal(err)
	}
	if err := far.Connected(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	x, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x.(*net.TCPConn), y.(*net.TCPConn)
}

// watchdog is how long anything that must happen may take in a test.
const watchdog = 30 * time.Second

// await fails the test when nothing is received from c within watchdog.
func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(watchdog):
		t.Fatalf("no %s within %v", what, watchdog)
		panic("unreachable")
	}
}

// eventually waits until ok reports true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(watchdog); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", watchdog, what)
		}
	}
}

// async runs f and returns its result when it has one.
func async[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// randomBytes returns n bytes that a seed determines.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	rand.NewChaCha8(key).Read(b)
	return b
}

// fill writes to a stream whose other end does not read until its window is
// full. It returns the channel of the error of the Write that is then blocked, and a
// function that returns the number of bytes written.
func fill(t testing.TB, st *Stream) (<-chan error, func() int) {
	t.Helper()
	var written atomic.Int64
	c := async(func() error {
		p := make([]byte, 16<<10)
		for {
			n, err := st.Write(p)
			written.Add(int64(n))
			if err != nil {
				return err
			}
		}
	})
	eventually(t, "the window is full", func() bool { return st.credit.bytes.Load() <= frameHeader })
	return c, func() int { return int(written.Load()) }
}

// wantReset fails the test unless err is a ResetError of this kind.
func wantReset(t testing.TB, what string, err error, code Code, remote bool) {
	t.Helper()
	var reset *ResetError
	if !errors.As(err, &reset) || reset.Code != code || reset.Remote != remote || errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v; want a reset with code %v, remote %v", what, err, code, remote)
	}
}

// wantLost fails the test unless err says that the session was lost.
func wantLost(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrSessionLost) || errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v; want %v", what, err, ErrSessionLost)
	}
}

// connOf returns the connection of a session's link.
func connOf(s *Session) *ws.Conn { return s.link.Conn().(*ws.Conn) }
