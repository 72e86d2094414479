package client_test

import (
	"io"
	"net"
	"testing"
	"time"

	"adit/client"
	"adit/server"
)

// Reconnect and a request of the server migrate the session to a new connection
// without an interruption.
func TestMigrate(t *testing.T) {
	for name, migrate := range map[string]func(r *running, g *gateway){
		"reconnect": func(r *running, _ *gateway) { r.Reconnect() },
		"server":    func(_ *running, g *gateway) { g.RequestMigration(0) },
	} {
		t.Run(name, func(t *testing.T) {
			g := startServer(t, server.Config{}, access(t, "*:*"))
			r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.MigrationInterval = time.Nanosecond })
			c := r.dial(t, 0)
			for i := range 3 {
				mustEcho(t, c)
				migrate(r, g)
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
				cfg.MigrationInterval = time.Nanosecond
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

// Without resumption only new streams migrate; the others finish on their
// connection.
func TestMigrateWithoutResumption(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.Mux.ResumeTimeout = -1 })
	c := r.dial(t, 0)
	mustEcho(t, c)
	g.RequestMigration(0)
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

// A server that asks for migrations again and again gets one for each interval.
func TestMigrationRequestsWithoutEnd(t *testing.T) {
	g := startServer(t, server.Config{MaxConnectionAge: time.Millisecond}, access(t, "*:*"))
	r, fault := viaFault(t, g, func(cfg *client.Config) { cfg.MigrationInterval = 500 * time.Millisecond })
	start := time.Now()
	mustEcho(t, r.dial(t, 0))
	for time.Since(start) < 2*time.Second {
		g.RequestMigration(0)
		time.Sleep(time.Millisecond)
	}
	// The first connection, a migration at once, and one for each interval.
	if n, most := fault.Total(), 2+int(time.Since(start)/(500*time.Millisecond)); n < 3 || n > most {
		t.Errorf("%d connections, want 3 to %d", n, most)
	}
	requests := r.Status().Counts.MigrationRequests
	if requests["accepted"] == 0 || requests["deferred"] < 10 {
		t.Errorf("%v", requests)
	}
	mustEcho(t, r.dial(t, 0))
}

// A connection that a middlebox drops silently is replaced when a keystroke is not
// acknowledged, long before the peer's silence would end it.
func TestSilentlyDroppedConnection(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	r, fault := viaFault(t, g, nil)
	c := r.dial(t, 0)
	mustEcho(t, c)
	fault.Freeze()
	start := time.Now()
	mustEcho(t, c)
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("frozen for %v", d)
	}
	r.log.Wait(t, 1, "no acknowledgements")
	if n := len(r.log.Lines("link up")); n != 1 {
		t.Errorf("%d sessions", n)
	}
	// An idle connection, and one that is answered, stays.
	total := fault.Total()
	for range 8 {
		time.Sleep(time.Second)
		mustEcho(t, c)
	}
	if n := fault.Total(); n != total {
		t.Errorf("%d connections, want %d", n, total)
	}
}
