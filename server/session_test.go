package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestMaxSessions(t *testing.T) {
	two := user("alice", "*:*")
	two.MaxSessions = 2
	g := start(t, Config{MaxSessionsPerUser: 1}, Access{Users: users(t, two, user("bob", "*:*"))})
	echo := tcp(testnet.Echo(t))
	first := g.session(t, "alice")
	st := mustOpen(t, first, echo)
	second := g.session(t, "alice")
	for range 3 {
		_, err := g.trySession(t, "alice")
		var refused *mux.ClosedError
		if !errors.As(err, &refused) || refused.Code != mux.CloseLimit {
			t.Fatalf("one session too many: %v", err)
		}
	}
	// Connections without a hello are bounded, too.
	for range 2 { // once the refused sessions' connections are closed
		eventually(t, "a connection is accepted", func() bool {
			resp, _ := g.ask(t, upgrade("/tunnel", "Authorization: Bearer alice-token"))
			return resp.StatusCode == http.StatusSwitchingProtocols
		})
	}
	resp, _ := g.ask(t, upgrade("/tunnel", "Authorization: Bearer alice-token"))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	mustEcho(t, st)
	g.session(t, "bob")
	if _, err := g.trySession(t, "bob"); err == nil {
		t.Error("more sessions than the server's default")
	}
	g.log.Wait(t, 5, "session refused", "as many as the user's max-sessions allows")
	second.Close()
	g.log.Wait(t, 1, "session closed", "user=alice")
	eventually(t, "there is room again", func() bool {
		m, err := g.trySession(t, "alice")
		if err != nil {
			return false
		}
		m.Close()
		return true
	})
}

// shutdown runs Shutdown with a drain timeout.
func shutdown(t *testing.T, g *gateway, drain time.Duration) chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		done <- g.Shutdown(ctx)
	}()
	return done
}

func wait(t *testing.T, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(watchdog):
		t.Fatal("Shutdown does not return")
		return nil
	}
}

// A connection that was accepted just before the shutdown is served.
func TestShutdownLastRequest(t *testing.T) {
	g := start(t, Config{LastRequestTimeout: time.Minute}, Access{Users: users(t, user("alice"))})
	raw, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(watchdog))
	eventually(t, "the connection is accepted", func() bool { return g.limiter.len() > 0 })
	done := shutdown(t, g, time.Hour)
	eventually(t, "the server does not listen any more", func() bool {
		c, err := net.Dial("tcp", g.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	config := g.ca.ClientConfig()
	config.ServerName = "localhost"
	conn := tls.Client(raw, config)
	if resp, _ := askOn(t, conn, request("GET / HTTP/1.1")); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
}

func TestShutdownDrains(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	echo := tcp(testnet.Echo(t))
	busy, idle := g.session(t, "alice"), g.session(t, "alice")
	st := mustOpen(t, busy, echo)
	keepAlive := g.dialTLS(t)
	askOn(t, keepAlive, request("GET / HTTP/1.1"))
	done := shutdown(t, g, time.Hour)
	select {
	case <-busy.GoingAway():
	case <-time.After(watchdog):
		t.Fatal("the client is not told")
	}
	wantAway(t, idle)
	mustEcho(t, st)
	wantCode(t, busy, echo, mux.GoingAway)
	if c, err := net.Dial("tcp", g.addr); err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(watchdog))
		if b, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("a new connection is kept: %q", b)
		}
	}
	if _, err := io.ReadAll(keepAlive); isTimeout(err) {
		t.Error("a visitor's idle connection is kept")
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown does not wait for the stream: %v", err)
	default:
	}
	mustEcho(t, st)
	st.CloseWrite()
	if _, err := io.ReadAll(st); err != nil {
		t.Error(err)
	}
	st.Close()
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
	wantAway(t, busy)
	if n := g.numSessions(); n != 0 || !g.limiter.empty() {
		t.Errorf("%d sessions after Shutdown", n)
	}
}

func wantAway(t *testing.T, m *mux.Session) {
	t.Helper()
	var closed *mux.ClosedError
	if err := ended(t, m); !errors.As(err, &closed) || closed.Code != mux.CloseAway {
		t.Errorf("the session ended with %v", err)
	}
}

func TestShutdownCuts(t *testing.T) {
	flood := testnet.Serve(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	g := start(t, Config{DialTimeout: time.Hour}, Access{Users: users(t, user("alice", "*:*"))})
	a, b, idle := g.session(t, "alice"), g.session(t, "alice"), g.session(t, "alice")
	st := mustOpen(t, a, tcp(testnet.Echo(t)))
	mustOpen(t, a, tcp(flood)) // data that is never read
	if _, err := b.Open(t.Context(), tcp(blackhole(t))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all streams are there", func() bool { return g.numStreams() == 3 })
	err := wait(t, shutdown(t, g, 100*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 sessions") {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := io.ReadAll(st); err == nil {
		t.Error("a stream that was cut has ended well")
	}
	wantAway(t, a)
	wantAway(t, b)
	wantAway(t, idle)
}

// Connections that are silent or break the protocol do not delay Shutdown, neither
// before nor after the handshakes.
func TestShutdownSilent(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	raw, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	g.dialTLS(t)
	io.WriteString(g.dialTLS(t), "GET / HTTP/1.1\r\nHost:")
	conn, err := dial.Dial(t.Context(), g.url(), g.dialer("alice")) // and no hello
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	eventually(t, "they are counted", func() bool {
		g.limiter.mu.Lock()
		defer g.limiter.mu.Unlock()
		return g.limiter.all.len() == 3
	})
	start := time.Now()
	if err := wait(t, shutdown(t, g, time.Hour)); err != nil {
		t.Error(err)
	}
	// net/http alone would take 5 s.
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A visitor's request is completed, or ends at the timeout.
func TestShutdownVisitor(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		io.WriteString(w, "late")
	})
	g := start(t, Config{Site: slow}, Access{Users: users(t, user("alice", "*:*"))})
	c := g.dialTLS(t)
	io.WriteString(c, request("GET / HTTP/1.1", "Connection: close"))
	<-begun
	done := shutdown(t, g, time.Hour)
	eventually(t, "Shutdown has begun", func() bool {
		g.limiter.mu.Lock()
		defer g.limiter.mu.Unlock()
		return g.limiter.stopped
	})
	close(finish)
	if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), "late") {
		t.Errorf("%q, %v", b, err)
	}
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
}

// A connection that the site has hijacked, as for a WebSocket of its own, does not
// outlive Shutdown.
func TestShutdownHijacked(t *testing.T) {
	accepted, over := make(chan struct{}), make(chan struct{})
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		close(accepted)
		conn.NextMessage()
		conn.CloseNow()
		close(over)
	})
	g := start(t, Config{Site: site}, Access{Users: users(t, user("alice", "*:*"))})
	conn, err := dial.Dial(t.Context(), "wss://"+g.addr+"/its-own", g.dialer(""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	<-accepted
	if err := wait(t, shutdown(t, g, time.Hour)); err != nil {
		t.Error(err)
	}
	<-over
}

// Sessions that start during Shutdown do not outlive it.
func TestShutdownRace(t *testing.T) {
	for range 20 {
		g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
		const clients = 4
		made := make(chan *mux.Session, clients)
		for range clients {
			go func() {
				m, _ := g.trySession(t, "alice")
				made <- m
			}()
		}
		first := <-made
		if err := wait(t, shutdown(t, g, time.Hour)); err != nil {
			t.Error(err)
		}
		if n := g.numSessions(); n != 0 {
			t.Errorf("%d sessions after Shutdown", n)
		}
		for range clients {
			if first != nil {
				ended(t, first)
				first.Close()
			}
			select {
			case first = <-made:
			default:
				first = nil
			}
		}
		for len(made) > 0 {
			if m := <-made; m != nil {
				m.Close()
			}
		}
	}
}

func TestServeFails(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice"))})
	ln := testnet.Listen(t)
	ln.Close()
	if err := g.Serve(ln, nil); err == nil {
		t.Error("a closed listener is served")
	}
}

// Two listeners, one without TLS.
func TestServeTwo(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	ln := testnet.Listen(t)
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln, nil) }()
	conn, err := dial.Dial(t.Context(), "ws://"+ln.Addr().String()+"/tunnel", g.dialer("alice"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := mux.Client(t.Context(), conn, &mux.Config{ResumeTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mustEcho(t, mustOpen(t, m, tcp(testnet.Echo(t))))
	mustEcho(t, mustOpen(t, g.session(t, "alice"), tcp(testnet.Echo(t))))
	done := shutdown(t, g, 0)
	wait(t, done)
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestHTTPLog(t *testing.T) {
	log := testnet.NewLog()
	for _, line := range []string{"http: TLS handshake error from x\n", "http: panic serving x: y\n", "http2: panic serving x: y\n", "http: Accept error: z; retrying in 5ms\n"} {
		httpLog{log.Logger}.Write([]byte(line))
	}
	log.Wait(t, 1, "level=DEBUG", "handshake")
	log.Wait(t, 3, "level=ERROR")
}

// A lost connection may be reported after it has been replaced. The age of the new
// connection is limited all the same.
func TestAgeAfterLateReportOfLoss(t *testing.T) {
	g := start(t, Config{MaxConnectionAge: time.Hour}, Access{Users: users(t, user("alice"))})
	g.session(t, "alice")
	g.log.Wait(t, 1, "session opened")
	for _, x := range g.tunnel.sessions.some(-1) {
		x.linkLost(errors.New("late"))
		if !x.age.Stop() {
			t.Error("the client is never asked to migrate")
		}
	}
}
