package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestServerRestart(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	var mu sync.Mutex
	var states []client.State
	cfg.OnState = func(s client.State) {
		mu.Lock()
		states = append(states, s)
		mu.Unlock()
	}
	r := run(t, cfg)
	c := r.dial(t, 0)
	mustEcho(t, c)
	g.stop()
	mustReset(t, c)
	r.log.Wait(t, 1, "link down")
	g.restart(t, server.Config{}, access(t, "*:*"))
	mustEcho(t, r.dial(t, 0))
	r.cancel()
	r.result(t)
	mu.Lock()
	defer mu.Unlock()
	ups := 0
	for i, s := range states {
		if s.Up {
			ups++
		}
		if s.Server != g.url() || s.Up != (s.Err == nil) || i > 0 && s.Up && states[i-1].Up {
			t.Errorf("state %d: %+v", i, s)
		}
	}
	if ups != 2 || states[len(states)-1].Up {
		t.Errorf("%+v", states)
	}
}

// An attempt at a WebSocket server that is not adit times out.
func TestServerWithoutSession(t *testing.T) {
	upgraded := make(chan *ws.Conn, 1000)
	quiet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := ws.Accept(w, r, nil); err == nil {
			upgraded <- conn
		}
	}))
	defer quiet.Close()
	cfg := client.Config{Servers: []string{"ws" + strings.TrimPrefix(quiet.URL, "http")}, Dial: &dial.Options{}, BackoffMin: time.Millisecond}
	cfg.Mux.HandshakeTimeout = 100 * time.Millisecond
	r := run(t, cfg)
	r.log.Wait(t, 2, "connect failed", "session handshake")
	r.cancel()
	r.result(t)
	for len(upgraded) > 0 {
		(<-upgraded).CloseNow()
	}
}

func TestReconnectSkipsPause(t *testing.T) {
	cfg := client.Config{Servers: []string{unreachableURL(t)}, Dial: &dial.Options{}, BackoffMin: time.Hour, BackoffMax: 8 * time.Hour}
	r := run(t, cfg)
	for i := range 4 {
		for _, p := range pauses(t, r, i+1) {
			if p > 3*time.Hour/2 {
				t.Errorf("a pause of %v: Reconnect did not reset the backoff", p)
			}
		}
		r.Reconnect()
	}
}

// Reconnect cancels an attempt that hangs.
func TestReconnectCancelsAttempt(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	fault.Stall(true)
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.Dial.HandshakeTimeout = time.Hour
	r := run(t, cfg)
	for i := range 3 {
		eventually(t, "an attempt has started", func() bool { return fault.Total() > i })
		r.Reconnect()
	}
	eventually(t, "another attempt has started", func() bool { return fault.Total() > 3 })
	fault.Stall(false)
	mustEcho(t, r.dial(t, 0))
	// The session stays.
	r.Reconnect()
	mustEcho(t, r.dial(t, 0))
	if lines := r.log.Lines("link down"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// A user who is removed learns that, and exits under ExitOnRefusal.
func TestRevokedUser(t *testing.T) {
	echo := testnet.Echo(t)
	a := access(t, "*:*")
	// This allows an empty list of users.
	a.Anonymous = []string{"1"}
	g := startServer(t, server.Config{}, a)
	cfg := g.clientConfig(tcp(echo))
	cfg.ExitOnRefusal = true
	r := run(t, cfg)
	c := r.dial(t, 0)
	mustEcho(t, c)
	if err := g.SetAccess(server.Access{Anonymous: []string{"1"}}); err != nil {
		t.Fatal(err)
	}
	mustReset(t, c)
	if err := r.result(t); !errors.Is(err, client.ErrRefused) {
		t.Errorf("%v", err)
	}
	r.log.Wait(t, 1, "link down", "this user may no longer use the server")
}

// A server that goes away lets streams finish; new streams use its successor.
func TestGoingAway(t *testing.T) {
	echo := testnet.Echo(t)
	g := startServer(t, server.Config{}, access(t, "*:*"))
	old := g.Server
	r := run(t, g.clientConfig(tcp(echo)))
	live := r.dial(t, 0)
	mustEcho(t, live)
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(context.Background()) }()
	r.log.Wait(t, 1, "link down", "the server is going away")
	g.startSuccessor(t)
	mustEcho(t, r.dial(t, 0))
	r.log.Wait(t, 2, "link up")
	mustEcho(t, live)
	live.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(live); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(watchdog):
		t.Fatal("the old server is still running")
	}
	mustEcho(t, r.dial(t, 0))
}

// A client that exits because of a refusal does not wait for the streams that
// drain.
func TestRefusalWhileDraining(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	old := g.Server
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.ExitOnRefusal = true
	r := run(t, cfg)
	live := r.dial(t, 0)
	mustEcho(t, live)
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(context.Background()) }()
	r.log.Wait(t, 1, "link down", "the server is going away")
	others := access(t)
	others.Users = nil
	others.Anonymous = []string{"1"}
	eventually(t, "the address is free", func() bool {
		ln, err := net.Listen("tcp", g.addr)
		if err != nil {
			return false
		}
		g.listen(t, server.Config{}, others, ln)
		return true
	})
	if err := r.result(t); !errors.Is(err, client.ErrRefused) {
		t.Errorf("%v", err)
	}
	mustReset(t, live)
	<-drained
}
