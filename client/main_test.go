package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/auth"
	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
	"adit/tunnel/dial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watchdog bounds every wait of a test.
const watchdog = 30 * time.Second

// gateway is a running server on loopback with TLS, which can be restarted.
type gateway struct {
	*server.Server
	addr   string
	ca     *testnet.CA
	config *tls.Config
	log    *testnet.Log
	stop   func() // resets its connections
}

// access returns the access of the one user of the tests, with these rules.
func access(t *testing.T, allow ...string) server.Access {
	t.Helper()
	u, err := auth.NewUsers([]auth.User{{Name: "alice", TokenHashes: []string{auth.HashToken("token")}, Allow: allow}})
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

// restart starts another server at the same address.
func (g *gateway) restart(t *testing.T, cfg server.Config, a server.Access) {
	t.Helper()
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.listen(t, cfg, a, ln)
}

// startSuccessor starts another server at the same address as soon as the one
// that is stopping has freed it.
func (g *gateway) startSuccessor(t *testing.T) {
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

func (g *gateway) dialer() *dial.Options {
	return &dial.Options{
		TLS:           g.ca.ClientConfig(),
		Authorization: func() (string, error) { return "Bearer token", nil },
	}
}

func (g *gateway) url() string { return "wss://" + g.addr + "/tunnel" }

// clientConfig returns the configuration of a client of the gateway with a
// forward to each target from a free port.
func (g *gateway) clientConfig(targets ...mux.Target) client.Config {
	cfg := client.Config{Servers: []string{g.url()}, Dial: g.dialer(), BackoffMin: 10 * time.Millisecond}
	for _, to := range targets {
		cfg.Forwards = append(cfg.Forwards, client.Forward{Network: "tcp", Address: "127.0.0.1:0", Target: to})
	}
	return cfg
}

// running is a client in Run.
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

// viaFault runs a client that connects through a path on which tests inject
// faults.
func viaFault(t *testing.T, g *gateway, change func(*client.Config)) (*running, *testnet.Fault) {
	t.Helper()
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	fault := testnet.NewFault(t, g.addr)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	if change != nil {
		change(&cfg)
	}
	return run(t, cfg), fault
}

// result waits for Run and returns its error.
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

// dialReset connects to a forward that must reset the connection. Dial, the
// write or the read may report it.
func (r *running) dialReset(t *testing.T, i int, data string) {
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
	if _, err := io.WriteString(c, data); errors.Is(err, syscall.ECONNRESET) {
		return
	}
	mustReset(t, c)
}

func tcp(address string) mux.Target { return mux.Target{Kind: mux.TCP, Address: address} }

// unreachableURL returns the URL of a server that refuses TCP connections.
func unreachableURL(t *testing.T) string { return "wss://" + testnet.RefusedAddr(t) + "/tunnel" }

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

// mustReset fails unless the connection is reset.
func mustReset(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q, %v; want a reset", b, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: " + what)
		}
	}
}
