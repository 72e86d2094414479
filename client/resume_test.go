package client_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
)

// A stream survives the loss of each of its connections, and both logs say so.
func TestResumeAfterCut(t *testing.T) {
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

// A connection that falls silent is given up; the stream survives.
func TestResumeAfterSilence(t *testing.T) {
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

// Streams are reset when the resume timeout is over, and new connections use a
// new session.
func TestResumeTimeout(t *testing.T) {
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

// If the server does not know the session, as after a crash, its streams are
// reset and new streams use a new session at once.
func TestUnknownSession(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	successor := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.Dial.TLS.RootCAs.AddCert(successor.ca.Cert) })
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

// Without resumption, streams are reset when their connection stalls: no error
// and no data.
func TestStalledConnectionWithoutResumption(t *testing.T) {
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

// A transfer completes even if every connection is cut after a few KiB.
func TestProgressOverShortConnections(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, nil)
	c := r.dial(t, 0)
	mustEcho(t, c)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := int64(0); ; i++ {
			// A handshake takes 4 KiB.
			fault.CutAfter(8<<10 + i*7919%(32<<10))
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
