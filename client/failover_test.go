package client_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel/dial"
)

// twoServers runs a client of two servers, with a path to the first on which the
// test injects faults.
func twoServers(t *testing.T, change func(*client.Config)) (a, b *gateway, first *testnet.Fault, r *running) {
	a = startServer(t, server.Config{}, access(t, "*:*"))
	b = startServer(t, server.Config{}, access(t, "*:*"))
	first = testnet.NewFault(t, a.addr)
	cfg := a.clientConfig(tcp(testnet.Echo(t)))
	cfg.Dial.TLS.RootCAs.AddCert(b.ca.Cert)
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", b.url()}
	if change != nil {
		change(&cfg)
	}
	return a, b, first, run(t, cfg)
}

func TestFailover(t *testing.T) {
	a := startServer(t, server.Config{}, access(t, "*:*"))
	b := startServer(t, server.Config{}, access(t, "*:*"))
	echo := tcp(testnet.Echo(t))
	cfg := a.clientConfig(echo)
	pool := a.ca.Pool()
	pool.AddCert(b.ca.Cert)
	cfg.Dial.TLS.RootCAs = pool
	cfg.Servers = []string{unreachableURL(t), a.url(), b.url()}
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

// If the session's server cannot be reached, new connections use another one at
// once. The present connections resume when it is back.
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

// The first server is used again when it is back; connections through the other
// one finish there.
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

func TestRandomOrder(t *testing.T) {
	var servers []string
	for range 6 {
		servers = append(servers, unreachableURL(t))
	}
	seen := map[string]bool{}
	for range 20 {
		r := run(t, client.Config{Servers: servers, Dial: &dial.Options{}, RandomServer: true})
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

// probing runs a client that is connected by the second of two paths to a server
// and probes the first, where the attempt hangs.
func probing(t *testing.T, change func(*client.Config)) (b *gateway, first, second *testnet.Fault, r *running) {
	t.Helper()
	b = startServer(t, server.Config{}, access(t, "*:*"))
	first, second = testnet.NewFault(t, b.addr), testnet.NewFault(t, b.addr)
	first.Down()
	cfg := b.clientConfig(tcp(testnet.Echo(t)))
	cfg.Servers = []string{"wss://" + first.Addr() + "/tunnel", "wss://" + second.Addr() + "/tunnel"}
	cfg.PreferInterval, cfg.Dial.HandshakeTimeout = 20*time.Millisecond, time.Hour
	change(&cfg)
	r = run(t, cfg)
	r.log.Wait(t, 1, "link up", second.Addr())
	first.Stall(true)
	first.Up(t)
	eventually(t, "the client probes the first server", func() bool { return first.Total() > 0 })
	return b, first, second, r
}

// Neither a migration nor a resumption waits for a probe that hangs.
func TestMigrateWhileProbing(t *testing.T) {
	b, first, second, r := probing(t, func(*client.Config) {})
	c := r.dial(t, 0)
	mustEcho(t, c)
	b.RequestMigration(0)
	r.log.Wait(t, 1, "link migrated", second.Addr())
	mustEcho(t, c)
	eventually(t, "the client probes the first server", func() bool { return first.Total() > 1 })
	second.Cut()
	r.log.Wait(t, 1, "link resumed", second.Addr())
	mustEcho(t, c)
}

// The next session does not wait for a probe that hangs.
func TestSessionEndWhileProbing(t *testing.T) {
	_, _, second, r := probing(t, func(cfg *client.Config) { cfg.Mux.ResumeTimeout = -1 })
	second.Cut()
	r.log.Wait(t, 2, "link up", second.Addr())
	mustEcho(t, r.dial(t, 0))
}

// Frequent migrations do not postpone the probes.
func TestProbeWhileMigrating(t *testing.T) {
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
