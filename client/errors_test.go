package client_test

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel/dial"
)

func TestRefusal(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	wrong := g.dialer()
	wrong.Authorization = func() (string, error) { return "Bearer wrong", nil }
	untrusting := g.dialer()
	untrusting.TLS = testnet.NewCA(t, "another CA").ClientConfig()
	for name, d := range map[string]*dial.Options{"token": wrong, "certificate": untrusting} {
		t.Run(name, func(t *testing.T) {
			cfg := g.clientConfig(tcp("127.0.0.1:1"))
			cfg.Dial = d
			r := run(t, cfg)
			r.log.Wait(t, 3, "level=ERROR", map[string]string{"token": "refused by server", "certificate": "this client does not trust the server"}[name], "hint=")

			cfg.ExitOnRefusal = true
			r = run(t, cfg)
			if err := r.result(t); !errors.Is(err, client.ErrRefused) {
				t.Errorf("%v", err)
			}
			if c, err := net.Dial("tcp", r.Addrs()[0].String()); err == nil {
				c.Close()
				t.Error("the listener is open after Run")
			}

			// One server that cannot be reached may come back: no refusal.
			cfg.Servers = []string{g.url(), unreachableURL(t)}
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

// If one server refuses and the other may come back, the client keeps trying. A
// server that refuses to resume may still give a new session.
func TestRefusalBySomeServers(t *testing.T) {
	for _, refuses := range []string{"the other", "the session's"} {
		t.Run(refuses, func(t *testing.T) {
			g := startServer(t, server.Config{}, access(t, "*:*"))
			untrusted := startServer(t, server.Config{}, access(t, "*:*"))
			fault := testnet.NewFault(t, g.addr)
			cfg := g.clientConfig(tcp(testnet.Echo(t)))
			cfg.ExitOnRefusal = true
			cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", untrusted.url()}
			if refuses != "the other" {
				cfg.Servers[1] = unreachableURL(t)
			}
			r := run(t, cfg)
			c := r.dial(t, 0)
			mustEcho(t, c)
			if refuses == "the other" {
				fault.Down()
			} else {
				fault.SetBackend(untrusted.addr)
				fault.Cut()
			}
			r.log.Wait(t, 2, "level=WARN", "connect failed")
			fault.SetBackend(g.addr)
			fault.Up(t)
			mustEcho(t, c)
		})
	}
}

// A refused migration is not a refusal by all servers, also if the connection is
// lost meanwhile.
func TestRefusedMigration(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	fault := testnet.NewFault(t, g.addr)
	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.ExitOnRefusal = true
	cfg.Servers = []string{"wss://" + fault.Addr() + "/tunnel", unreachableURL(t)}
	var dials atomic.Int32
	migrate, refuse := make(chan struct{}), make(chan struct{})
	cfg.Dial.Authorization = func() (string, error) {
		if dials.Add(1) != 2 {
			return "Bearer token", nil
		}
		close(migrate)
		<-refuse
		return "Bearer wrong", nil
	}
	r := run(t, cfg)
	c := r.dial(t, 0)
	mustEcho(t, c)
	r.Reconnect()
	<-migrate
	fault.Cut()
	r.log.Wait(t, 1, "link lost")
	close(refuse)
	mustEcho(t, c)
	r.log.Wait(t, 1, "link resumed")
}

// The hints of all servers that were tried are logged, each once.
func TestHints(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig()
	cfg.Dial.Authorization = nil
	cfg.Servers = []string{unreachableURL(t), g.url(), unreachableURL(t)}
	r := run(t, cfg)
	line := r.log.Wait(t, 1, "connect failed")[0]
	for _, hint := range []string{"check that the server is running", "the path or the token is not accepted"} {
		if strings.Count(line, hint) != 1 {
			t.Errorf("%q is not there once: %s", hint, line)
		}
	}
}
