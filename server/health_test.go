package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

func TestHealthy(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	if err := g.Healthy(t.Context()); err != nil {
		t.Errorf("an idle server: %v", err)
	}
	m := g.session(t, "alice")
	mustOpen(t, m, tcp(testnet.Silent(t)))
	if err := g.Healthy(t.Context()); err != nil {
		t.Errorf("with a stream on which nothing moves: %v", err)
	}
	for name, lock := range map[string]interface {
		Lock()
		Unlock()
	}{"limiter": &g.limiter.mu, "table": &g.tunnel.sessions.mu} {
		lock.Lock()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := g.Healthy(ctx); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the %s is locked for good: %v", name, err)
		}
		cancel()
		lock.Unlock()
		eventually(t, "the server is well again", func() bool { return g.Healthy(t.Context()) == nil })
	}
}
