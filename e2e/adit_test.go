//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"adit/internal/testnet"
)

// A keyPair is the paths of a certificate and its key, and of the throw-away CA that signed it.
type keyPair struct{ cert, key, ca string }

func newKeyPair(t *testing.T, names ...string) keyPair {
	t.Helper()
	ca := testnet.NewCA(t, "adit e2e CA")
	cert, key := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{Names: names}))
	return keyPair{cert, key, ca.WritePEM(t)}
}

// tunnelPath is where the servers of these tests have their tunnel endpoint.
const tunnelPath = "/tunnel"

// adit runs a subcommand to its end in the host, and returns its standard output.
func (h *host) adit(t *testing.T, args ...string) string {
	t.Helper()
	return h.run(t, "", append([]string{aditBin}, args...)...)
}

// A server is a running adit server.
type server struct {
	*process
	addr string // where it listens, HOST:PORT
}

// server starts adit server and waits until it listens. It has to stop cleanly at the test's end,
// if it was not stopped before.
func (h *host) server(t *testing.T, args ...string) *server {
	t.Helper()
	p := h.start(t, "adit server", spec{argv: append([]string{aditBin, "server"}, args...)})
	cleanStop(t, p)
	return &server{p, p.wait(t, `msg=listening addr=(\S+)`, 1)[1]}
}

// A client is a running adit client.
type client struct {
	*process
}

// client starts adit client and waits for its link.
func (h *host) client(t *testing.T, args ...string) *client {
	t.Helper()
	c := h.clientUnlinked(t, args...)
	c.wait(t, linkUp, 1)
	return c
}

// clientUnlinked starts adit client, which may not reach its server yet.
func (h *host) clientUnlinked(t *testing.T, args ...string) *client {
	t.Helper()
	p := h.start(t, "adit client", spec{argv: append([]string{aditBin, "client"}, args...)})
	cleanStop(t, p)
	return &client{p}
}

// Lines of the client's log.
const (
	linkUp       = `msg="link up"`       // with a new session
	linkLost     = `msg="link lost"`     // the session waits for the next connection
	linkResumed  = `msg="link resumed"`  // and goes on
	linkMigrated = `msg="link migrated"` // from one connection to the next
	linkReplaced = `msg="link replaced"` // for another server's
	linkDown     = `msg="link down"`     // the session is over
	streamLost   = `msg="stream lost"`
)

// listens waits until the client listens for its forward to target, and returns the local address.
func (c *client) listens(t *testing.T, target string) string {
	t.Helper()
	return c.wait(t, `msg=listening forward=`+regexp.QuoteMeta(target)+` addr=(\S+)`, 1)[1]
}

// cleanStop stops a process at the test's end, if the test did not. One that has ended by itself is
// an error.
func cleanStop(t *testing.T, p *process) {
	t.Cleanup(func() {
		if !p.stopped {
			p.stop(t)
		}
	})
}

// An account is a user whom a server knows: the token's file for the client, the hash for the
// server.
type account struct {
	name, tokenFile, hash string
}

// newAccount makes a token with adit token.
func newAccount(t *testing.T, h *host, name string) account {
	t.Helper()
	out := h.adit(t, "token", name)
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + ` = "([^"]+)"$`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("adit token prints no %s:\n%s", key, out)
		}
		return m[1]
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(secret("a token", value("token"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return account{name, tokenFile, value("token-hash")}
}

// users writes a server's [[user]] table for the account.
func (a account) users(allow ...string) string {
	return fmt.Sprintf("[[user]]\nname = %q\ntoken-hash = %q\nallow = [\"%s\"]\n", a.name, a.hash, strings.Join(allow, `", "`))
}

// A gateway is what the network tests reach through the tunnel: a host with backends, and what a
// server and its users need to know.
type gateway struct {
	host     *host
	backends *backends
	pair     keyPair
	alice    account
}

// gatewayURL is the gateway's tunnel endpoint for clients.
const gatewayURL = "wss://" + gatewayName + tunnelPath

// newGateway starts the given backends on a new host.
func newGateway(t *testing.T, start ...func(*backends, *testing.T)) *gateway {
	t.Helper()
	h := isolated(t, "gateway")
	b := &backends{host: h, dir: workDir(t)}
	for _, start := range start {
		start(b, t)
	}
	return &gateway{h, b, newKeyPair(t, gatewayName), newAccount(t, h, "alice")}
}

// serve starts the gateway's server: on port 443 of the gateway's address, or behind a front that
// listens there.
func (g *gateway) serve(t *testing.T, before front) *server {
	t.Helper()
	listen, tls := gatewayAddr+":443", fmt.Sprintf("cert = %q\nkey = %q", g.pair.cert, g.pair.key)
	if before != nil {
		listen, tls = "127.0.0.1:0", "off = true"
	}
	s := g.host.server(t, "--config", writeFile(t, workDir(t), "server.toml", fmt.Sprintf(`listen = [%q]
[tls]
%s
[tunnel]
path = %q
%s
[[target]]
name = "pg"
address = %q
[[target]]
name = "redis"
address = %q
`, listen, tls, tunnelPath, g.alice.users(sshBackend, jsonBackend, bulkBackend, "pg", "redis"), pgBackend, redisBackend)))
	if before != nil {
		before(t, g.host, g.pair, s.addr)
	}
	return s
}

// connect starts a client at h that forwards to every backend, and returns its user. proxy may be
// empty.
func (g *gateway) connect(t *testing.T, h *host, proxy string) (*client, *tunnelUser) {
	t.Helper()
	conf := fmt.Sprintf(`server = [%q]
token-file = %q
forward = [%q, %q, %q, %q, %q]
`, gatewayURL, g.alice.tokenFile,
		sshLocal+":"+sshBackend, pgLocal+":pg", redisLocal+":redis", jsonLocal+":"+jsonBackend, bulkLocal+":"+bulkBackend)
	command := []string{aditBin, "client", "--token-file", g.alice.tokenFile, "--ca", g.pair.ca}
	if proxy != "" {
		conf += fmt.Sprintf("proxy = %q\n", proxy)
		// The other way to say it.
		command = append([]string{"env", "HTTPS_PROXY=" + proxy}, command...)
	}
	conf += fmt.Sprintf("[tls]\nca = %q\n", g.pair.ca)
	user := &tunnelUser{at: h, backends: g.backends, wCommand: command, url: gatewayURL}
	return h.clientUnlinked(t, "--config", writeFile(t, workDir(t), "client.toml", conf)), user
}
