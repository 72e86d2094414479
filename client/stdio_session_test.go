package client_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
)

// talk runs Stdio to an echo server. echo sends a text and waits for it to
// return; end ends the stream, which must succeed.
func talk(t *testing.T, cfg client.Config) (echo, end func(), log *testnet.Log) {
	t.Helper()
	log = testnet.NewLog()
	cfg.Logger = log.Logger
	c := stdio(t, cfg)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Stdio(t.Context(), tcp(testnet.Echo(t)), inR, outW) }()
	echo = func() {
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
	echo()
	return echo, end, log
}

// Stdio's stream survives the loss of its connections.
func TestStdioResume(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig()
	fault := testnet.NewFault(t, g.addr)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Stdio(t.Context(), mux.Target{Kind: mux.TCP, Address: testnet.Echo(t)}, inR, outW) }()
	for range 3 {
		inW.Write([]byte("hello"))
		got := make([]byte, 5)
		if _, err := io.ReadFull(outR, got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
		fault.Cut()
	}
	inW.Close()
	if b, err := io.ReadAll(outR); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStdioSessionLost(t *testing.T) {
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
	out.checkOpen(t, "hello")
}

// Stdio migrates when the network changes, as Run does.
func TestStdioWatchesNetwork(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg, log := g.clientConfig(), testnet.NewLog()
	cfg.Logger, cfg.WatchInterval = log.Logger, time.Millisecond
	c := stdio(t, cfg)
	polls := make(chan struct{})
	var changed atomic.Bool
	c.SetNetwork(func() []string {
		select {
		case polls <- struct{}{}:
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
	// The first poll is over then.
	for range 2 {
		select {
		case <-polls:
		case <-time.After(watchdog):
			t.Fatal("no poll")
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

// Stdio waits for a server that cannot be reached and does not try another: its
// stream exists only there.
func TestStdioDoesNotFailOver(t *testing.T) {
	a := startServer(t, server.Config{}, access(t, "*:*"))
	b := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, a.addr)
	cfg := a.clientConfig()
	cfg.Dial.TLS.RootCAs.AddCert(b.ca.Cert)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", b.url()}
	echo, end, log := talk(t, cfg)
	fault.Down()
	log.Wait(t, 2, "connect failed")
	fault.Up(t)
	echo()
	log.Wait(t, 1, "link resumed")
	end()
	if lines := b.log.Lines("session"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// Stdio does not probe preferred servers.
func TestStdioDoesNotProbePreferred(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	first := testnet.NewFault(t, g.addr)
	first.Down()
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", g.url()}
	cfg.PreferInterval = time.Microsecond
	echo, end, _ := talk(t, cfg)
	first.Up(t)
	for range 100 {
		echo()
	}
	end()
	if n := first.Total(); n > 0 {
		t.Errorf("%d connections", n)
	}
}

// The stream of a server that goes away finishes there; there is no session with
// its successor.
func TestStdioGoingAway(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	old := g.Server
	echo, end, log := talk(t, g.clientConfig())
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(context.Background()) }()
	g.startSuccessor(t)
	for range 100 {
		echo()
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

// When a server goes away, an attempt to migrate that keeps failing is not
// repeated.
func TestStdioGoingAwayWhileMigrating(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.MaxConnectionAge, cfg.BackoffMin, cfg.BackoffMax = 100*time.Millisecond, time.Millisecond, time.Millisecond
	echo, end, log := talk(t, cfg)
	fault.SetBackend(testnet.RefusedAddr(t))
	log.Wait(t, 3, "connect failed")
	drained := make(chan error, 1)
	go func() { drained <- g.Server.Shutdown(context.Background()) }()
	eventually(t, "the attempts have stopped", func() bool {
		tried := len(log.Lines("connect failed"))
		for range 100 {
			echo()
		}
		return len(log.Lines("connect failed")) == tried
	})
	end()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// If the server does not know the session, the stream ends, and no other session
// is made.
func TestStdioUnknownSession(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	successor := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg, log := g.clientConfig(), testnet.NewLog()
	cfg.Logger = log.Logger
	cfg.Dial.TLS.RootCAs.AddCert(successor.ca.Cert)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	out := newOutput()
	done := busyStdio(t, t.Context(), cfg, out, out.wrote)
	fault.SetBackend(successor.addr)
	fault.Cut()
	if err := <-done; !errors.Is(err, mux.ErrSessionLost) {
		t.Errorf("%v", err)
	}
	out.checkOpen(t, "hello")
	if lines := log.Lines("link up"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// The error tells why the attempts to resume the session failed.
func TestStdioSessionLostForAReason(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.Mux.ResumeTimeout = time.Second
	out := newOutput()
	done := busyStdio(t, t.Context(), cfg, out, out.wrote)
	fault.Down()
	err := <-done
	if !errors.Is(err, mux.ErrSessionLost) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
}
