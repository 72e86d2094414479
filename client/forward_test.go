package client_test

import (
	"io"
	"net"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
)

func TestForwards(t *testing.T) {
	echo := testnet.Echo(t)
	a := access(t, "*:*", "web")
	a.Targets = map[string]string{"web": echo}
	g := startServer(t, server.Config{}, a)
	cfg := g.clientConfig(tcp(echo), mux.Target{Kind: mux.Named, Address: "web"})
	given := testnet.Listen(t)
	cfg.Forwards = append(cfg.Forwards, client.Forward{Listener: given, Target: tcp(echo)})
	r := run(t, cfg)
	r.log.Wait(t, 1, "msg=listening", "target=web", "addr="+r.Addrs()[1].String())
	for i := range 3 {
		mustEcho(t, r.dial(t, i))
	}
	r.log.Wait(t, 1, `msg="link up"`, "server="+g.url())
	// Half-close passes, and so does the data that follows in the other direction.
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
		t.Error("the given listener stays open")
	}
	g.log.Wait(t, 1, "session closed", `reason="the client is done"`)
}

// Run does not wait for a busy stream, nor for one whose application does not
// read.
func TestRunStopsWithBusyStreams(t *testing.T) {
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

// A connection that is accepted while the link is down is served once it is up.
func TestConnectionWaitsForLink(t *testing.T) {
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
	// A connection that still waits when the client stops is reset.
	fault.Down()
	r.log.Wait(t, 1, "link lost")
	c = r.dial(t, 0)
	r.cancel()
	r.result(t)
	mustReset(t, c)
}
