package client_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
)

// A client is healthy with a link, without one, and while it connects.
func TestHealthy(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	fault := testnet.NewFault(t, g.addr)
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel"}
	cfg.BackoffMin, cfg.BackoffMax = time.Hour, time.Hour
	r := run(t, cfg)
	healthy := func(when string) {
		t.Helper()
		for range 3 {
			if err := r.Healthy(t.Context()); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	mustEcho(t, r.dial(t, 0))
	healthy("with a link")
	fault.Down()
	r.log.Wait(t, 1, "link lost")
	healthy("during a pause")
	fault.Up(t)
	fault.Stall(true)
	r.Reconnect()
	healthy("while a handshake hangs")
}

// A client whose connector does not run is not healthy.
func TestUnhealthy(t *testing.T) {
	c, err := client.New(client.Config{Servers: []string{unreachableURL(t)}, Dial: startServer(t, server.Config{}, access(t, "*:*")).dialer()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Healthy(ctx); err == nil || !strings.Contains(err.Error(), "connector") {
		t.Error(err)
	}
}
