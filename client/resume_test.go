package client_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
	"adit/tunnel"
)

// viaFault runs a client whose link goes by a path that misbehaves on demand.
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

// A stream outlives its link, however often that is lost, and the log says so.
func TestStreamOutlivesLink(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, nil)
	c := r.dial(t, 0)
	for i := range 5 {
		mustEcho(t, c)
		fault.Cut()
		mustEcho(t, c)
		r.log.Wait(t, i+1, "level=WARN", `msg="link lost"`, "reason=")
		r.log.Wait(t, i+1, "level=INFO", `msg="link resumed"`, "down=", "replayed=")
		g.log.Wait(t, i+1, `msg="link resumed"`, "user=alice")
	}
	if n := len(r.log.Lines("link up")); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A path that falls silent is given up, and the stream goes on when it is back.
func TestStreamOutlivesSilence(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) {
		cfg.Mux.Silence, cfg.Mux.PingInterval = 500*time.Millisecond, 100*time.Millisecond
	})
	c := r.dial(t, 0)
	mustEcho(t, c)
	fault.Stall(true)
	r.log.Wait(t, 1, "link lost", "not a byte from the peer")
	fault.Stall(false)
	mustEcho(t, c)
	r.log.Wait(t, 1, "link resumed")
}

// While the server cannot be reached, streams wait; when the time is up they
// are reset, and new connections get a new session.
func TestStreamsWaitInVain(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.Mux.ResumeTimeout = 500 * time.Millisecond })
	c := r.dial(t, 0)
	mustEcho(t, c)
	fault.Down()
	mustReset(t, c)
	r.log.Wait(t, 1, "link down", "not resumed within 500ms")
	r.log.Wait(t, 1, "stream lost")
	fault.Up(t)
	mustEcho(t, r.dial(t, 0))
}

// A kick, and the age of a connection, and the server's wish, move the link to
// a new connection without a gap.
func TestMove(t *testing.T) {
	for name, move := range map[string]func(r *running, g *gateway){
		"kick":   func(r *running, _ *gateway) { r.Reconnect() },
		"server": func(_ *running, g *gateway) { g.AskToMove(0) },
	} {
		t.Run(name, func(t *testing.T) {
			g := startServer(t, server.Config{}, access(t, "*:*"))
			r, fault := viaFault(t, g, nil)
			c := r.dial(t, 0)
			for i := range 3 {
				mustEcho(t, c)
				move(r, g)
				r.log.Wait(t, i+1, "link migrated")
				mustEcho(t, c)
			}
			if n := fault.Total(); n != 4 {
				t.Errorf("%d connections", n)
			}
			if lines := r.log.Lines("link lost"); len(lines) > 0 {
				t.Errorf("%q", lines)
			}
		})
	}
}

func TestMaxConnectionAge(t *testing.T) {
	for _, whose := range []string{"client", "server"} {
		t.Run(whose, func(t *testing.T) {
			var sc server.Config
			if whose == "server" {
				sc.MaxConnectionAge = 50 * time.Millisecond
			}
			g := startServer(t, sc, access(t, "*:*"))
			r, _ := viaFault(t, g, func(cfg *client.Config) {
				if whose == "client" {
					cfg.MaxConnectionAge = 50 * time.Millisecond
				}
			})
			c := r.dial(t, 0)
			mustEcho(t, c)
			r.log.Wait(t, 3, "link migrated")
			mustEcho(t, c)
			if n := len(r.log.Lines("link up")); n != 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// Without resumption a move is that of new streams; the others stay where they
// are.
func TestMoveWithoutResumption(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.Mux.ResumeTimeout = -1 })
	c := r.dial(t, 0)
	mustEcho(t, c)
	g.AskToMove(0)
	r.log.Wait(t, 1, "link replaced", "streams=1")
	r.log.Wait(t, 2, "link up")
	mustEcho(t, r.dial(t, 0))
	mustEcho(t, c)
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
	if n := fault.Total(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// two servers, and a path to the first that can be taken away.
func twoServers(t *testing.T, change func(*client.Config)) (a, b *gateway, first *testnet.Fault, r *running) {
	a = startServer(t, server.Config{}, access(t, "*:*"))
	b = startServer(t, server.Config{}, access(t, "*:*"))
	first = testnet.NewFault(t, a.addr)
	cfg := a.clientConfig(tcp(testnet.Echo(t)))
	cfg.Dialer.TLS.RootCAs.AddCert(b.ca.Cert)
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", b.url()}
	if change != nil {
		change(&cfg)
	}
	return a, b, first, run(t, cfg)
}

// When the server of a session cannot be reached, new connections go to
// another one at once, and the old ones wait; they go on when it is back.
func TestFailoverKeepsStreams(t *testing.T) {
	_, b, first, r := twoServers(t, nil)
	old := r.dial(t, 0)
	mustEcho(t, old)
	first.Down()
	r.log.Wait(t, 1, "link up", b.url())
	mustEcho(t, r.dial(t, 0))
	first.Up(t)
	mustEcho(t, old)
	old.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(old); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}

// The first server is preferred when it is back, and connections to the other
// one end where they are.
func TestPreferFirst(t *testing.T) {
	a, b, first, r := twoServers(t, func(cfg *client.Config) { cfg.PreferInterval = 20 * time.Millisecond })
	mustEcho(t, r.dial(t, 0))
	first.Down()
	r.log.Wait(t, 1, "link up", b.url())
	second := r.dial(t, 0)
	mustEcho(t, second)
	first.Up(t)
	r.log.Wait(t, 2, "link up", first.Addr())
	mustEcho(t, second)
	mustEcho(t, r.dial(t, 0))
	second.Close()
	b.log.Wait(t, 1, "session closed", "the client is done")
	a.log.Wait(t, 2, "session opened")
}

// looking is a client that is connected by the second of two ways to a server, and
// looks for it by the first, where that hangs.
func looking(t *testing.T, change func(*client.Config)) (b *gateway, first, second *testnet.Fault, r *running) {
	t.Helper()
	b = startServer(t, server.Config{}, access(t, "*:*"))
	first, second = testnet.NewFault(t, b.addr), testnet.NewFault(t, b.addr)
	first.Down()
	cfg := b.clientConfig(tcp(testnet.Echo(t)))
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", "wss://" + second.Addr() + "/tunnel"}
	cfg.PreferInterval, cfg.Dialer.HandshakeTimeout = 20*time.Millisecond, time.Hour
	change(&cfg)
	r = run(t, cfg)
	r.log.Wait(t, 1, "link up", second.Addr())
	first.Stall(true)
	first.Up(t)
	eventually(t, "it looks for the first server", func() bool { return first.Total() > 0 })
	return b, first, second, r
}

// A move does not wait for a look at a preferred server that hangs, and
// neither does a link that is lost.
func TestMoveWhileLooking(t *testing.T) {
	b, first, second, r := looking(t, func(*client.Config) {})
	c := r.dial(t, 0)
	mustEcho(t, c)
	b.AskToMove(0)
	r.log.Wait(t, 1, "link migrated", second.Addr())
	mustEcho(t, c)
	eventually(t, "it looks for the first server", func() bool { return first.Total() > 1 })
	second.Cut()
	r.log.Wait(t, 1, "link resumed", second.Addr())
	mustEcho(t, c)
}

// Nor does the next session, when this one has ended with its connection.
func TestEndWhileLooking(t *testing.T) {
	_, _, second, r := looking(t, func(cfg *client.Config) { cfg.Mux.ResumeTimeout = -1 })
	second.Cut()
	r.log.Wait(t, 2, "link up", second.Addr())
	mustEcho(t, r.dial(t, 0))
}

// A link that moves more often than a better server is looked for does not put
// that off.
func TestPreferWhileMoving(t *testing.T) {
	b := startServer(t, server.Config{}, access(t, "*:*"))
	first := testnet.NewFault(t, b.addr)
	first.Down()
	cfg := b.clientConfig()
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", b.url()}
	cfg.MaxConnectionAge, cfg.PreferInterval = 200*time.Millisecond, 500*time.Millisecond
	r := run(t, cfg)
	r.log.Wait(t, 1, "link migrated", b.url())
	first.Up(t)
	r.log.Wait(t, 1, "link up", first.Addr())
}

func TestRandomOrder(t *testing.T) {
	var servers []string
	for range 6 {
		servers = append(servers, dead(t))
	}
	seen := map[string]bool{}
	for range 20 {
		r := run(t, client.Config{Servers: servers, Dialer: &tunnel.Dialer{}, RandomServer: true})
		line := r.log.Wait(t, 1, "connect failed")[0]
		slices.SortFunc(servers, func(a, b string) int { return strings.Index(line, host(a)) - strings.Index(line, host(b)) })
		seen[servers[0]] = true
		r.cancel()
	}
	if len(seen) < 3 {
		t.Errorf("only %d servers were ever the first", len(seen))
	}
}

func host(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "wss://"), "/tunnel")
}

// A server that has forgotten the session, as after a crash, gets a new one at
// once; streams of the old one are reset.
func TestServerForgets(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	successor := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.Dialer.TLS.RootCAs.AddCert(successor.ca.Cert) })
	c := r.dial(t, 0)
	mustEcho(t, c)
	fault.SetBackend(successor.addr)
	fault.Cut()
	mustReset(t, c)
	r.log.Wait(t, 1, "link down", "does not know the session")
	r.log.Wait(t, 2, "link up")
	if err := tryEcho(r.dial(t, 0)); err != nil {
		t.Fatalf("%v\n%q\n%q", err, r.log.Lines(""), successor.log.Lines(""))
	}
}

// The one stream of Stdio outlives its link, too.
func TestStdioOutlivesLink(t *testing.T) {
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

// However soon each connection is cut, as long as some bytes pass, the whole
// does in the end.
func TestProgressInSmallPieces(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, nil)
	c := r.dial(t, 0)
	mustEcho(t, c)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := int64(0); ; i++ {
			fault.CutAfter(8<<10 + i*7919%(32<<10)) // a handshake is 4 KiB
			total := fault.Total()
			for fault.Total() == total {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}
	}()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	go c.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
	t.Logf("%d connections", fault.Total())
}
