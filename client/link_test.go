package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel"
)

func TestReconnect(t *testing.T) {
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

var retryIn = regexp.MustCompile(`retry=(\S+)`)

// pauses are those that the client says it makes, at least n.
func pauses(t *testing.T, r *running, n int) []time.Duration {
	t.Helper()
	var list []time.Duration
	for _, line := range r.log.Wait(t, n, "retry=") {
		d, err := time.ParseDuration(retryIn.FindStringSubmatch(line)[1])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

func TestBackoff(t *testing.T) {
	cfg := client.Config{Servers: []string{dead(t)}, Dialer: &tunnel.Dialer{}, BackoffMin: 20 * time.Millisecond, BackoffMax: 160 * time.Millisecond}
	r := run(t, cfg)
	for i, got := range pauses(t, r, 6) {
		want := min(cfg.BackoffMin<<i, cfg.BackoffMax)
		if got < want/2-time.Millisecond || got > want*3/2+time.Millisecond {
			t.Errorf("pause %d is %v, want %v give or take half", i, got, want)
		}
	}
	if err := func() error {
		select {
		case err := <-r.ended:
			return err
		default:
			return nil
		}
	}(); err != nil {
		t.Error(err)
	}
}

func TestJitter(t *testing.T) {
	const d = 100 * time.Millisecond
	var all []time.Duration
	for range 1000 {
		all = append(all, client.Jitter(d))
	}
	slices.Sort(all)
	if all[0] < d/2 || all[len(all)-1] > d || all[0] > d*5/8 || all[len(all)-1] < d*7/8 {
		t.Errorf("from %v to %v", all[0], all[len(all)-1])
	}
}

func TestKickEndsThePause(t *testing.T) {
	cfg := client.Config{Servers: []string{dead(t)}, Dialer: &tunnel.Dialer{}, BackoffMin: time.Hour, BackoffMax: 8 * time.Hour}
	r := run(t, cfg)
	for i := range 4 {
		for _, p := range pauses(t, r, i+1) {
			if p > 3*time.Hour/2 {
				t.Errorf("a pause of %v: a kick does not begin anew", p)
			}
		}
		r.Reconnect()
	}
}

// A kick ends an attempt that hangs, too.
func TestKickEndsTheAttempt(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	fault.Stall(true)
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.Dialer.HandshakeTimeout = time.Hour
	r := run(t, cfg)
	for i := range 3 {
		eventually(t, "an attempt has begun", func() bool { return fault.Total() > i })
		r.Reconnect()
	}
	eventually(t, "another attempt has begun", func() bool { return fault.Total() > 3 })
	fault.Stall(false)
	mustEcho(t, r.dial(t, 0))
	r.Reconnect() // a live link stays
	mustEcho(t, r.dial(t, 0))
	if lines := r.log.Lines("link down"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

func TestFailover(t *testing.T) {
	a := startServer(t, server.Config{}, access(t, "*:*"))
	b := startServer(t, server.Config{}, access(t, "*:*"))
	echo := tcp(testnet.Echo(t))
	cfg := a.clientConfig(echo)
	pool := a.ca.Pool()
	pool.AddCert(b.ca.Cert)
	cfg.Dialer.TLS.RootCAs = pool
	cfg.Servers = []string{dead(t), a.url(), b.url()}
	r := run(t, cfg)
	mustEcho(t, r.dial(t, 0))
	r.log.Wait(t, 1, "link up", a.url())
	a.stop()
	r.log.Wait(t, 1, "link up", b.url())
	mustEcho(t, r.dial(t, 0))
	a.restart(t, server.Config{}, access(t, "*:*"))
	b.stop()
	r.log.Wait(t, 2, "link up", a.url())
	mustEcho(t, r.dial(t, 0))
}

func TestRefusal(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	wrong := g.dialer()
	wrong.Authorization = func() (string, error) { return "Bearer wrong", nil }
	untrusting := g.dialer()
	untrusting.TLS = testnet.NewCA(t, "another CA").ClientConfig()
	for name, d := range map[string]*tunnel.Dialer{"token": wrong, "certificate": untrusting} {
		t.Run(name, func(t *testing.T) {
			cfg := g.clientConfig(tcp("127.0.0.1:1"))
			cfg.Dialer = d
			r := run(t, cfg)
			r.log.Wait(t, 3, "level=ERROR", "refused by server", "hint=") // and tries on

			cfg.ExitOnRefusal = true
			r = run(t, cfg)
			if err := r.result(t); !errors.Is(err, client.ErrRefused) {
				t.Errorf("%v", err)
			}
			if c, err := net.Dial("tcp", r.Addrs()[0].String()); err == nil {
				c.Close()
				t.Error("it listens after Run")
			}

			// While another server may come back, it is no refusal.
			cfg.Servers = []string{g.url(), dead(t)}
			r = run(t, cfg)
			r.log.Wait(t, 3, "level=WARN", "connect failed")
			select {
			case err := <-r.ended:
				t.Errorf("Run returns %v", err)
			default:
			}
		})
	}
}

// It is no refusal either while the server of the session may be back, and not
// while one that refuses a session has not been asked for another.
func TestRefusedInPart(t *testing.T) {
	for _, refuses := range []string{"the other", "the session's"} {
		t.Run(refuses, func(t *testing.T) {
			g := startServer(t, server.Config{}, access(t, "*:*"))
			stranger := startServer(t, server.Config{}, access(t, "*:*")) // with a certificate that is not trusted
			fault := testnet.NewFault(t, g.addr)
			cfg := g.clientConfig(tcp(testnet.Echo(t)))
			cfg.ExitOnRefusal = true
			cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", stranger.url()}
			if refuses != "the other" {
				cfg.Servers[1] = dead(t)
			}
			r := run(t, cfg)
			c := r.dial(t, 0)
			mustEcho(t, c)
			if refuses == "the other" {
				fault.Down()
			} else {
				fault.SetBackend(stranger.addr)
				fault.Cut()
			}
			r.log.Wait(t, 2, "level=WARN", "connect failed")
			fault.SetBackend(g.addr)
			fault.Up(t)
			mustEcho(t, c)
		})
	}
}

// A move that is refused is no refusal by all servers, also if the link was
// lost meanwhile.
func TestRefusedMove(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.ExitOnRefusal = true
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", dead(t)}
	var dials atomic.Int32
	move, refuse := make(chan struct{}), make(chan struct{})
	cfg.Dialer.Authorization = func() (string, error) {
		if dials.Add(1) != 2 {
			return "Bearer token", nil
		}
		close(move)
		<-refuse
		return "Bearer wrong", nil
	}
	r := run(t, cfg)
	c := r.dial(t, 0)
	mustEcho(t, c)
	r.Reconnect()
	<-move
	fault.Cut()
	r.log.Wait(t, 1, "link lost")
	close(refuse)
	mustEcho(t, c)
	r.log.Wait(t, 1, "link resumed")
}

// What to do is said for every server that was tried.
func TestHints(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig()
	cfg.Dialer.Authorization = nil
	cfg.Servers = []string{dead(t), g.url(), dead(t)}
	r := run(t, cfg)
	line := r.log.Wait(t, 1, "connect failed")[0]
	for _, hint := range []string{"check that the server is running", "the path or the token is not accepted"} {
		if strings.Count(line, hint) != 1 {
			t.Errorf("not once %q in %s", hint, line)
		}
	}
}

// A user who is removed is told so, and leaves under ExitOnRefusal.
func TestRevoked(t *testing.T) {
	echo := testnet.Echo(t)
	a := access(t, "*:*")
	a.Anonymous = []string{"1"} // so that no user at all is no error
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

// A server that goes away lets streams finish; new ones go to its successor.
func TestAway(t *testing.T) {
	echo := testnet.Echo(t)
	g := startServer(t, server.Config{}, access(t, "*:*"))
	old := g.Server
	r := run(t, g.clientConfig(tcp(echo)))
	live := r.dial(t, 0)
	mustEcho(t, live)
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(context.Background()) }()
	r.log.Wait(t, 1, "link down", "the server is going away")
	g.succeed(t)
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
		t.Fatal("the old server goes on")
	}
	mustEcho(t, r.dial(t, 0))
}

// A client that has to leave does not wait for the streams of a server that
// goes away.
func TestRefusedWhileRetiring(t *testing.T) {
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
	stranger := access(t)
	stranger.Users = nil
	stranger.Anonymous = []string{"1"}
	eventually(t, "the address is free", func() bool {
		ln, err := net.Listen("tcp", g.addr)
		if err != nil {
			return false
		}
		g.listen(t, server.Config{}, stranger, ln)
		return true
	})
	if err := r.result(t); !errors.Is(err, client.ErrRefused) {
		t.Errorf("%v", err)
	}
	mustReset(t, live)
	<-drained
}

// A server that takes the upgrade and then says nothing is given up, and so is
// one that is no server of ours.
func TestWrongServer(t *testing.T) {
	upgraded := make(chan *tunnel.Conn, 1000)
	quiet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := tunnel.Accept(w, r, nil); err == nil {
			upgraded <- conn
		}
	}))
	defer quiet.Close()
	cfg := client.Config{Servers: []string{"ws" + strings.TrimPrefix(quiet.URL, "http")}, Dialer: &tunnel.Dialer{}, BackoffMin: time.Millisecond}
	cfg.Mux.HandshakeTimeout = 100 * time.Millisecond
	r := run(t, cfg)
	r.log.Wait(t, 2, "connect failed", "session handshake")
	r.cancel()
	r.result(t)
	for len(upgraded) > 0 {
		(<-upgraded).CloseNow()
	}
}

func TestWatchNetwork(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig()
	cfg.Servers = []string{dead(t)}
	cfg.BackoffMin, cfg.BackoffMax, cfg.WatchInterval = time.Hour, time.Hour, time.Millisecond
	var addrs atomic.Pointer[[]string]
	addrs.Store(&[]string{"192.0.2.1/24"})
	var slept atomic.Int64
	looks := make(chan struct{}, 1)
	r := run(t, cfg, func(c *client.Client) {
		c.SetNetwork(func() []string {
			select {
			case looks <- struct{}{}:
			default:
			}
			return *addrs.Load()
		}, func() (time.Time, time.Duration) {
			return time.Unix(0, 0).Add(time.Duration(slept.Load())), 0
		})
	})
	r.log.Wait(t, 1, "connect failed")
	look := func() {
		for range 3 {
			<-looks
		}
	}
	look()
	if n := len(r.log.Lines("connect failed")); n != 1 {
		t.Fatalf("%d attempts in an unchanged network", n)
	}
	addrs.Store(&[]string{"192.0.2.1/24", "198.51.100.7/24"})
	r.log.Wait(t, 1, "network changed")
	r.log.Wait(t, 2, "connect failed")
	var unknown []string
	addrs.Store(&unknown) // the system does not tell: no change
	look()
	addrs.Store(&[]string{"192.0.2.1/24", "198.51.100.7/24"})
	look()
	slept.Store(int64(time.Minute))
	r.log.Wait(t, 1, "woke from sleep", "after=1m0s")
	r.log.Wait(t, 3, "connect failed")
	slept.Add(int64(time.Second)) // somebody set the clock
	look()
	if n := len(r.log.Lines("connect failed")); n != 3 {
		t.Errorf("%d attempts", n)
	}
}

// An interface that comes and goes with a container is no other network.
func TestLinkLocalAddresses(t *testing.T) {
	var addrs []net.Addr
	for _, s := range []string{"fe80::1/64", "192.0.2.7/24", "169.254.3.4/16", "2001:db8::7/64", "127.0.0.1/8"} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	if got, want := client.WithoutLinkLocal(addrs), []string{"127.0.0.1/8", "192.0.2.7/24", "2001:db8::7/64"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
