package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/auth"
	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
	"adit/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watchdog is how long a test waits for what should come soon.
const watchdog = 30 * time.Second

// gateway is a server that runs, over TLS on loopback, and can be restarted.
type gateway struct {
	*server.Server
	addr   string
	ca     *testnet.CA
	config *tls.Config
	log    *testnet.Log
	stop   func() // at once
}

// access lets the user of the tests reach what the rules allow.
func access(t *testing.T, allow ...string) server.Access {
	t.Helper()
	u, err := auth.NewUsers([]auth.User{{Name: "alice", TokenHash: auth.HashToken("token"), Allow: allow}})
	if err != nil {
		t.Fatal(err)
	}
	return server.Access{Users: u}
}

func startServer(t *testing.T, cfg server.Config, a server.Access) *gateway {
	t.Helper()
	ca := testnet.NewCA(t, "client test")
	g := &gateway{ca: ca, config: ca.ServerConfig(t), log: testnet.NewLog()}
	g.listen(t, cfg, a, testnet.Listen(t))
	return g
}

// restart runs another server at the same address.
func (g *gateway) restart(t *testing.T, cfg server.Config, a server.Access) {
	t.Helper()
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.listen(t, cfg, a, ln)
}

// succeed has another server take over the address as soon as the one that stops has
// left it.
func (g *gateway) succeed(t *testing.T) {
	t.Helper()
	eventually(t, "the address is free", func() bool {
		ln, err := net.Listen("tcp", g.addr)
		if err != nil {
			return false
		}
		g.listen(t, server.Config{}, access(t, "*:*"), ln)
		return true
	})
}

func (g *gateway) listen(t *testing.T, cfg server.Config, a server.Access, ln net.Listener) {
	t.Helper()
	cfg.Logger = g.log.Logger
	s, err := server.New(cfg, a)
	if err != nil {
		t.Fatal(err)
	}
	g.Server, g.addr = s, ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln, g.config) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(g.stop)
}

func (g *gateway) dialer() *tunnel.Dialer {
	return &tunnel.Dialer{
		TLS:           g.ca.ClientConfig(),
		Authorization: func() (string, error) { return "Bearer token", nil },
	}
}

func (g *gateway) url() string { return "wss://" + g.addr + "/tunnel" }

// clientConfig is for a client of the gateway's with a forward to each target
// from a free port.
func (g *gateway) clientConfig(targets ...mux.Target) client.Config {
	cfg := client.Config{Servers: []string{g.url()}, Dialer: g.dialer(), BackoffMin: 10 * time.Millisecond}
	for _, to := range targets {
		cfg.Forwards = append(cfg.Forwards, client.Forward{Network: "tcp", Address: "127.0.0.1:0", Target: to})
	}
	return cfg
}

// running is a client that runs.
type running struct {
	*client.Client
	log    *testnet.Log
	cancel context.CancelFunc
	ended  chan error
}

func run(t *testing.T, cfg client.Config, set ...func(*client.Client)) *running {
	t.Helper()
	r := &running{log: testnet.NewLog(), ended: make(chan error, 1)}
	cfg.Logger = r.log.Logger
	var err error
	if r.Client, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(r.Client)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// result is what Run returns.
func (r *running) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(watchdog):
		t.Fatal("Run does not return")
		return nil
	}
}

// dial connects to the client's i-th forward.
func (r *running) dial(t *testing.T, i int) net.Conn {
	t.Helper()
	a := r.Addrs()[i]
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(watchdog))
	return c
}

func tcp(address string) mux.Target { return mux.Target{Kind: mux.TCP, Address: address} }

func tryEcho(c net.Conn) error {
	const text = "there and back"
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != text {
		return errors.New("another text: " + string(b))
	}
	return nil
}

func mustEcho(t *testing.T, c net.Conn) {
	t.Helper()
	if err := tryEcho(c); err != nil {
		t.Fatal(err)
	}
}

// mustReset waits for a connection to be reset.
func mustReset(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q, %v; want a reset", b, err)
	}
}

// dialReset connects to a forward that resets; that may be before Dial or the
// write returns, and then it is not told again.
func (r *running) dialReset(t *testing.T, i int, say string) {
	t.Helper()
	c, err := net.Dial("tcp", r.Addrs()[i].String())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	if _, err := io.WriteString(c, say); errors.Is(err, syscall.ECONNRESET) {
		return
	}
	mustReset(t, c)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: " + what)
		}
	}
}

func TestNew(t *testing.T) {
	d := &tunnel.Dialer{}
	for name, cfg := range map[string]client.Config{
		"no server":  {Dialer: d},
		"no dialer":  {Servers: []string{"wss://gw.test"}},
		"no target":  {Servers: []string{"wss://gw.test"}, Dialer: d, Forwards: []client.Forward{{Network: "tcp", Address: "127.0.0.1:0"}}},
		"bad target": {Servers: []string{"wss://gw.test"}, Dialer: d, Forwards: []client.Forward{{Network: "tcp", Address: "127.0.0.1:0", Target: tcp("a\nb:1")}}},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := client.New(client.Config{Servers: []string{"wss://gw.test"}, Dialer: d}); err != nil || d.LatestPongOnly {
		t.Errorf("%v; the caller's dialer is changed: %v", err, d.LatestPongOnly)
	}
}

func TestListenAllOrNone(t *testing.T) {
	taken := testnet.Listen(t)
	given := testnet.Listen(t)
	sock := filepath.Join(t.TempDir(), "a.sock")
	forward := func(network, address string) client.Forward {
		return client.Forward{Network: network, Address: address, Target: tcp("127.0.0.1:1")}
	}
	byHand := forward("", "")
	byHand.Listener = given
	cfg := client.Config{Servers: []string{"wss://127.0.0.1:1"}, Dialer: &tunnel.Dialer{},
		Forwards: []client.Forward{forward("unix", sock), byHand, forward("tcp", "127.0.0.1:0"), forward("tcp", taken.Addr().String())}}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Listen()
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "forward to 127.0.0.1:1") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of another forward stays: %v", err)
	}
	if x, err := net.Dial("tcp", given.Addr().String()); err != nil {
		t.Errorf("a listener that was given is closed: %v", err)
	} else {
		x.Close()
	}
	// When there is room, the same client can listen.
	taken.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Addrs()); n != 4 {
		t.Errorf("%d addresses", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
	for _, a := range c.Addrs() {
		if x, err := net.Dial(a.Network(), a.String()); err == nil {
			x.Close()
			t.Errorf("%s listens after Run", a)
		}
	}
	// Run that cannot listen leaves nothing either.
	taken2 := testnet.Listen(t)
	byHand.Listener = testnet.Listen(t)
	cfg.Forwards = []client.Forward{byHand, forward("tcp", taken2.Addr().String())}
	if c, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run without a listener")
	}
	if x, err := net.Dial("tcp", byHand.Listener.Addr().String()); err == nil {
		x.Close()
		t.Error("a listener that was given stays open after Run")
	}
}

func TestUnixListener(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	dir := t.TempDir()
	cfg := func(name string) client.Config {
		c := g.clientConfig()
		c.Forwards = []client.Forward{{Network: "unix", Address: filepath.Join(dir, name), Target: tcp(testnet.Echo(t))}}
		return c
	}
	abandoned := filepath.Join(dir, "abandoned")
	old, err := net.Listen("unix", abandoned)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	r := run(t, cfg("abandoned"))
	info, err := os.Stat(abandoned)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	mustEcho(t, r.dial(t, 0))
	// It is in use now.
	second, err := client.New(cfg("abandoned"))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket in use is replaced: %v", err)
	}
	mustEcho(t, r.dial(t, 0))
	r.cancel()
	r.result(t)
	if _, err := os.Stat(abandoned); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	// What is no socket is not touched.
	for _, name := range []string{"file", "link"} {
		path := filepath.Join(dir, name)
		if name == "file" {
			err = os.WriteFile(path, []byte("precious"), 0o644)
		} else {
			err = os.Symlink(filepath.Join(dir, "file"), path)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(cfg(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Listen(); err == nil {
			t.Errorf("%s is replaced", name)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("%s: %q", name, b)
		}
	}
}

func TestForwards(t *testing.T) {
	echo := testnet.Echo(t)
	a := access(t, "*:*", "web")
	a.Targets = map[string]string{"web": echo}
	g := startServer(t, server.Config{}, a)
	cfg := g.clientConfig(tcp(echo), mux.Target{Kind: mux.Named, Address: "web"})
	given := testnet.Listen(t)
	cfg.Forwards = append(cfg.Forwards, client.Forward{Listener: given, Target: tcp(echo)})
	r := run(t, cfg)
	r.log.Wait(t, 1, "msg=listening", "forward=web", "addr="+r.Addrs()[1].String())
	for i := range 3 {
		mustEcho(t, r.dial(t, i))
	}
	r.log.Wait(t, 1, `msg="link up"`, "server="+g.url())
	// Half-close passes; what comes after it too.
	c := r.dial(t, 0)
	io.WriteString(c, "end")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "end" {
		t.Errorf("%q, %v", b, err)
	}
	live := r.dial(t, 0)
	mustEcho(t, live)
	r.cancel()
	if err := r.result(t); err != nil {
		t.Error(err)
	}
	mustReset(t, live)
	if c, err := net.Dial("tcp", given.Addr().String()); err == nil {
		c.Close()
		t.Error("a listener stays open")
	}
	g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
}

// The end of the client does not wait for a stream that is busy, nor for one
// whose application does not read.
func TestStopWhileBusy(t *testing.T) {
	flood := testnet.Serve(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r := run(t, g.clientConfig(tcp(flood), tcp(testnet.Silent(t))))
	unread := r.dial(t, 0)
	io.ReadFull(unread, make([]byte, 1<<20))
	up := r.dial(t, 1)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for b := make([]byte, 64<<10); ; {
			if _, err := up.Write(b); err != nil {
				return
			}
		}
	}()
	reading := r.dial(t, 0)
	io.ReadFull(reading, make([]byte, 1<<20))
	r.cancel()
	if err := r.result(t); err != nil {
		t.Error(err)
	}
	mustReset(t, reading)
	<-sent
	g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
}

func TestRefusedStream(t *testing.T) {
	refused := testnet.RefusedAddr(t)
	g := startServer(t, server.Config{}, access(t, refused, "[::1]:1"))
	r := run(t, g.clientConfig(tcp(refused), tcp("127.0.0.1:9"), mux.Target{Kind: mux.Named, Address: "nothing"}))
	for range 2 {
		r.dialReset(t, 0, "early data")
	}
	r.dialReset(t, 1, "")
	r.dialReset(t, 2, "")
	r.log.Wait(t, 2, "level=WARN", `msg="stream refused"`, "target="+refused, "code=refused", `reason="connection refused"`)
	r.log.Wait(t, 1, `msg="stream refused"`, "target=127.0.0.1:9", "code=forbidden", `reason="the server's policy does not allow it"`)
	r.log.Wait(t, 1, `msg="stream refused"`, "target=nothing", "code=forbidden")
	if lines := r.log.Lines("link down"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// dead is the URL of a server that is not there.
func dead(t *testing.T) string { return "wss://" + testnet.RefusedAddr(t) + "/tunnel" }

func TestLinkWait(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	fault := testnet.NewFault(t, g.addr)
	fault.Down()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.LinkWait = 300 * time.Millisecond
	r := run(t, cfg)
	start := time.Now()
	mustReset(t, r.dial(t, 0))
	if waited := time.Since(start); waited < cfg.LinkWait {
		t.Errorf("reset after %v", waited)
	}
	r.log.Wait(t, 1, "level=WARN", `msg="connection reset"`, "the link to the server is down")
	fault.Up(t)
	r.log.Wait(t, 1, "link up")
	mustEcho(t, r.dial(t, 0))
}

// A connection that comes while the link is down is served when it is up.
func TestConnectionWaits(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	fault := testnet.NewFault(t, g.addr)
	fault.Down()
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.LinkWait = time.Hour
	r := run(t, cfg)
	r.log.Wait(t, 2, "connect failed")
	c := r.dial(t, 0)
	echoed := make(chan error, 1)
	go func() { echoed <- tryEcho(c) }()
	fault.Up(t)
	if err := <-echoed; err != nil {
		t.Error(err)
	}
	// One that waits when the client stops is reset.
	fault.Down()
	r.log.Wait(t, 1, "link lost")
	c = r.dial(t, 0)
	r.cancel()
	r.result(t)
	mustReset(t, c)
}

// The stalled link: nothing fails, nothing moves. Without resumption that is
// the end of its streams.
func TestLinkStalls(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	fault := testnet.NewFault(t, g.addr)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.Mux.Silence, cfg.Mux.PingInterval = 500*time.Millisecond, 100*time.Millisecond
	cfg.Mux.ResumeTimeout = -1
	r := run(t, cfg)
	c := r.dial(t, 0)
	mustEcho(t, c)
	fault.Stall(true)
	mustReset(t, c)
	r.log.Wait(t, 1, "link down", "not a byte from the peer")
	r.log.Wait(t, 1, "stream lost")
	fault.Stall(false)
	fault.Cut()
	r.log.Wait(t, 2, "link up")
	mustEcho(t, r.dial(t, 0))
}
