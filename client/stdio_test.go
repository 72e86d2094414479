package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
)

// output collects what is written, and counts Close.
type output struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	closed int
	wrote  chan struct{}
}

func newOutput() *output { return &output{wrote: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed++
	return nil
}

func (o *output) check(t *testing.T, want string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if got := o.buf.String(); got != want || o.closed != 1 {
		t.Errorf("%q, closed %d times; want %q, closed once", got, o.closed, want)
	}
}

func stdio(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStdio(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	// It answers only after the end of our direction.
	target := testnet.Serve(t, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		io.WriteString(c, "got ")
		c.Write(b)
	})
	text := strings.Repeat("0123456789", 100_000)
	out := newOutput()
	if err := stdio(t, g.clientConfig()).Stdio(t.Context(), tcp(target), strings.NewReader(text), out); err != nil {
		t.Fatal(err)
	}
	out.check(t, "got "+text)
	g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
}

// The target's end ends out while in is still open, and the other direction
// goes on until in ends.
func TestStdioTargetEndsFirst(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	got := make(chan string, 1)
	target := testnet.Serve(t, func(c net.Conn) {
		io.WriteString(c, "bye")
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	})
	in, feed := io.Pipe()
	out := newOutput()
	done := make(chan error, 1)
	go func() { done <- stdio(t, g.clientConfig()).Stdio(t.Context(), tcp(target), in, out) }()
	eventually(t, "out is closed", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return out.closed > 0 })
	io.WriteString(feed, "still here")
	feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := <-got; s != "still here" {
		t.Errorf("%q", s)
	}
	out.check(t, "bye")
}

func TestStdioFails(t *testing.T) {
	refused := testnet.RefusedAddr(t)
	g := startServer(t, server.Config{}, access(t, refused))
	in, feed := io.Pipe() // never says anything
	defer feed.Close()

	out := newOutput()
	err := stdio(t, g.clientConfig()).Stdio(t.Context(), tcp(refused), in, out)
	var why *mux.RefusedError
	if !errors.As(err, &why) || why.Code != mux.Refused {
		t.Errorf("refused: %v", err)
	}
	out.check(t, "")

	out = newOutput()
	err = stdio(t, g.clientConfig()).Stdio(t.Context(), tcp("127.0.0.1:1"), strings.NewReader("x"), out)
	if !errors.As(err, &why) || why.Code != mux.Forbidden {
		t.Errorf("forbidden: %v", err)
	}
	out.check(t, "")

	out = newOutput()
	err = stdio(t, g.clientConfig()).Stdio(t.Context(), mux.Target{}, strings.NewReader("x"), out)
	if err == nil {
		t.Error("no target")
	}
	out.check(t, "")

	cfg := g.clientConfig()
	cfg.Servers = []string{dead(t)}
	out = newOutput()
	if err := stdio(t, cfg).Stdio(t.Context(), tcp(refused), in, out); err == nil || errors.Is(err, client.ErrRefused) {
		t.Errorf("no server: %v", err)
	}
	out.check(t, "")

	cfg = g.clientConfig()
	cfg.Dialer.Authorization = nil
	out = newOutput()
	if err := stdio(t, cfg).Stdio(t.Context(), tcp(refused), in, out); !errors.Is(err, client.ErrRefused) {
		t.Errorf("no token: %v", err)
	}
	out.check(t, "")
}

// busyStdio runs Stdio to an echo server until something has come back.
func busyStdio(t *testing.T, ctx context.Context, cfg client.Config, out io.WriteCloser, wrote <-chan struct{}) (done chan error) {
	t.Helper()
	in, feed := io.Pipe()
	t.Cleanup(func() { feed.Close() })
	done = make(chan error, 1)
	go func() { done <- stdio(t, cfg).Stdio(ctx, tcp(testnet.Echo(t)), in, out) }()
	io.WriteString(feed, "hello")
	<-wrote
	return done
}

func TestStdioLinkLost(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.Mux.ResumeTimeout = -1
	out := newOutput()
	done := busyStdio(t, t.Context(), cfg, out, out.wrote)
	fault.Cut()
	if err := <-done; !errors.Is(err, mux.ErrSessionLost) {
		t.Errorf("%v", err)
	}
	out.check(t, "hello")
}

func TestStdioCancelled(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	ctx, cancel := context.WithCancel(t.Context())
	out := newOutput()
	done := busyStdio(t, ctx, g.clientConfig(), out, out.wrote)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	out.check(t, "hello")

	// Also while it connects.
	fault := testnet.NewFault(t, g.addr)
	fault.Stall(true)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	ctx, cancel = context.WithCancel(t.Context())
	out = newOutput()
	done = make(chan error, 1)
	go func() { done <- stdio(t, cfg).Stdio(ctx, tcp("127.0.0.1:1"), strings.NewReader("x"), out) }()
	eventually(t, "it connects", func() bool { return fault.Total() > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	out.check(t, "")
}

// Another network is seen to at once, as by a client in Run.
func TestStdioWatchesNetwork(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg, log := g.clientConfig(), testnet.NewLog()
	cfg.Logger, cfg.WatchInterval = log.Logger, time.Millisecond
	c := stdio(t, cfg)
	looks := make(chan struct{})
	var changed atomic.Bool
	c.SetNetwork(func() []string {
		select {
		case looks <- struct{}{}:
		default:
		}
		if changed.Load() {
			return []string{"198.51.100.7/24"}
		}
		return []string{"192.0.2.1/24"}
	}, func() (time.Time, time.Duration) { return time.Unix(0, 0), 0 })
	in, feed := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Stdio(t.Context(), tcp(testnet.Echo(t)), in, newOutput()) }()
	for range 2 { // the first is over then
		select {
		case <-looks:
		case <-time.After(watchdog):
			t.Fatal("nobody looks")
		}
	}
	changed.Store(true)
	log.Wait(t, 1, "network changed")
	log.Wait(t, 1, "link migrated")
	feed.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// talk runs Stdio to an echo server. say has a text come back; end ends the
// stream, which must go well.
func talk(t *testing.T, cfg client.Config) (say, end func(), log *testnet.Log) {
	t.Helper()
	log = testnet.NewLog()
	cfg.Logger = log.Logger
	c := stdio(t, cfg)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Stdio(t.Context(), tcp(testnet.Echo(t)), inR, outW) }()
	say = func() {
		t.Helper()
		io.WriteString(inW, "hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(outR, got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	end = func() {
		t.Helper()
		inW.Close()
		if b, err := io.ReadAll(outR); err != nil || len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	say()
	return say, end, log
}

// A server that cannot be reached is waited for, and no other asked: the stream
// cannot go there.
func TestStdioFailsNotOver(t *testing.T) {
	a := startServer(t, server.Config{}, access(t, "*:*"))
	b := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, a.addr)
	cfg := a.clientConfig()
	cfg.Dialer.TLS.RootCAs.AddCert(b.ca.Cert)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", b.url()}
	say, end, log := talk(t, cfg)
	fault.Down()
	log.Wait(t, 2, "connect failed")
	fault.Up(t)
	say()
	log.Wait(t, 1, "link resumed")
	end()
	if lines := b.log.Lines("session"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// Nor is a server looked for that comes before the one in use.
func TestStdioStays(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	first := testnet.NewFault(t, g.addr)
	first.Down()
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", g.url()}
	cfg.PreferInterval = time.Microsecond
	say, end, _ := talk(t, cfg)
	first.Up(t)
	for range 100 {
		say()
	}
	end()
	if n := first.Total(); n > 0 {
		t.Errorf("%d connections", n)
	}
}

// The stream ends where it is when its server goes away, without a session at
// the successor.
func TestStdioAway(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	old := g.Server
	say, end, log := talk(t, g.clientConfig())
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(context.Background()) }()
	g.succeed(t)
	for range 100 {
		say()
	}
	end()
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if lines := log.Lines("link down"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
	if lines := g.log.Lines("session opened"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// Nor is there another attempt when a move was under way, and failing, by then.
func TestStdioAwayWhileMoving(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.MaxConnectionAge, cfg.BackoffMin, cfg.BackoffMax = 100*time.Millisecond, time.Millisecond, time.Millisecond
	say, end, log := talk(t, cfg)
	fault.SetBackend(testnet.RefusedAddr(t))
	log.Wait(t, 3, "connect failed")
	drained := make(chan error, 1)
	go func() { drained <- g.Server.Shutdown(context.Background()) }()
	eventually(t, "it tries no more", func() bool {
		tried := len(log.Lines("connect failed"))
		for range 100 {
			say()
		}
		return len(log.Lines("connect failed")) == tried
	})
	end()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// A server that has forgotten the session ends the stream, and gets no other
// session.
func TestStdioForgotten(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	successor := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg, log := g.clientConfig(), testnet.NewLog()
	cfg.Logger = log.Logger
	cfg.Dialer.TLS.RootCAs.AddCert(successor.ca.Cert)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	out := newOutput()
	done := busyStdio(t, t.Context(), cfg, out, out.wrote)
	fault.SetBackend(successor.addr)
	fault.Cut()
	if err := <-done; !errors.Is(err, mux.ErrSessionLost) {
		t.Errorf("%v", err)
	}
	out.check(t, "hello")
	if lines := log.Lines("link up"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// stuck is an output that nobody reads.
type stuck struct{ begun, free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.free
	return 0, os.ErrClosed
}
func (s stuck) Close() error { return nil }

func TestStdioStuck(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	out := stuck{make(chan struct{}, 1), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := busyStdio(t, ctx, g.clientConfig(), out, out.begun)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(watchdog):
		t.Error("Stdio waits for a Write that nobody reads")
	}
	close(out.free)
}
