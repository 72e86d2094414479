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
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
)

// output records what is written to it, and counts the calls of Close.
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

// check expects want, and that out has been closed.
func (o *output) check(t *testing.T, want string) { o.expect(t, want, 1) }

// checkOpen expects want, and that out has not been closed.
func (o *output) checkOpen(t *testing.T, want string) { o.expect(t, want, 0) }

func (o *output) expect(t *testing.T, want string, closed int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if got := o.buf.String(); got != want || o.closed != closed {
		t.Errorf("%q, closed %d times; want %q, closed %d times", got, o.closed, want, closed)
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

// busyStdio runs Stdio to an echo server and returns when the first echo has
// arrived.
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

func TestStdio(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	// The target answers only after end of file.
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

// When the target ends its direction, out is closed; the other direction stays
// open until in ends.
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

// After an error out is still open: ssh must see the reason before the end.
func TestStdioFails(t *testing.T) {
	refused := testnet.RefusedAddr(t)
	g := startServer(t, server.Config{}, access(t, refused))
	// The pipe never has data.
	in, feed := io.Pipe()
	defer feed.Close()

	out := newOutput()
	err := stdio(t, g.clientConfig()).Stdio(t.Context(), tcp(refused), in, out)
	var why *mux.RefusedError
	if !errors.As(err, &why) || why.Code != mux.Refused {
		t.Errorf("refused: %v", err)
	}
	out.checkOpen(t, "")

	out = newOutput()
	err = stdio(t, g.clientConfig()).Stdio(t.Context(), tcp("127.0.0.1:1"), strings.NewReader("x"), out)
	if !errors.As(err, &why) || why.Code != mux.Forbidden {
		t.Errorf("forbidden: %v", err)
	}
	out.checkOpen(t, "")

	out = newOutput()
	err = stdio(t, g.clientConfig()).Stdio(t.Context(), mux.Target{}, strings.NewReader("x"), out)
	if err == nil {
		t.Error("no target")
	}
	out.checkOpen(t, "")

	cfg := g.clientConfig()
	cfg.Servers = []string{unreachableURL(t)}
	out = newOutput()
	if err := stdio(t, cfg).Stdio(t.Context(), tcp(refused), in, out); err == nil || errors.Is(err, client.ErrRefused) {
		t.Errorf("no server: %v", err)
	}
	out.checkOpen(t, "")

	cfg = g.clientConfig()
	cfg.Dial.Authorization = nil
	out = newOutput()
	if err := stdio(t, cfg).Stdio(t.Context(), tcp(refused), in, out); !errors.Is(err, client.ErrRefused) {
		t.Errorf("no token: %v", err)
	}
	out.checkOpen(t, "")
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

	// Cancel it while it connects.
	fault := testnet.NewFault(t, g.addr)
	fault.Stall(true)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	ctx, cancel = context.WithCancel(t.Context())
	out = newOutput()
	done = make(chan error, 1)
	go func() { done <- stdio(t, cfg).Stdio(ctx, tcp("127.0.0.1:1"), strings.NewReader("x"), out) }()
	eventually(t, "an attempt has started", func() bool { return fault.Total() > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	out.check(t, "")
}

// stuck is an output whose Write blocks.
type stuck struct{ begun, free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.free
	return 0, os.ErrClosed
}

func (s stuck) Close() error { return nil }

func TestStdioBlockedWrite(t *testing.T) {
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
		t.Error("Stdio waits for a Write that blocks")
	}
	close(out.free)
}

// An output without a reader ends Stdio in order: the server learns that the
// client is done, and the target's connection ends.
func TestStdioWithoutReader(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends bool // in ends before out loses its reader, and the target sends nothing
	}{{"a write fails", false}, {"after the end of the input", true}} {
		t.Run(tt.name, func(t *testing.T) {
			g := startServer(t, server.Config{}, access(t, "*:*"))
			got, ended := make(chan string, 1), make(chan struct{})
			target := testnet.Serve(t, func(c net.Conn) {
				defer close(ended)
				if tt.ends {
					b, _ := io.ReadAll(c)
					got <- string(b)
					return
				}
				for {
					if _, err := io.WriteString(c, "more\n"); err != nil {
						return
					}
				}
			})
			r, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			in, feed := io.Pipe()
			defer feed.Close()
			done := make(chan error, 1)
			go func() { done <- stdio(t, g.clientConfig()).Stdio(t.Context(), tcp(target), in, out) }()
			if tt.ends {
				io.WriteString(feed, "hello")
				feed.Close()
				if s := <-got; s != "hello" {
					t.Errorf("%q", s)
				}
			} else if _, err := r.Read(make([]byte, 5)); err != nil {
				t.Error(err)
			}
			r.Close()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(watchdog):
				t.Fatal("Stdio does not end")
			}
			g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
			<-ended
		})
	}
}
