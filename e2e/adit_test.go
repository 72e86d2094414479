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

// A keyPair holds the paths of a certificate, its key, and the certificate of the temporary CA that
// signed it.
type keyPair struct{ cert, key, ca string }

func newKeyPair(t *testing.T, names ...string) keyPair {
	t.Helper()
	ca := testnet.NewCA(t, "adit e2e CA")
	cert, key := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{Names: names}))
	return keyPair{cert, key, ca.WritePEM(t)}
}

// tunnelPath is the path of the tunnel endpoint of every server here.
const tunnelPath = "/tunnel"

// adit runs a subcommand in the host, waits for it and returns its standard output.
func (h *host) adit(t *testing.T, args ...string) string {
	t.Helper()
	return h.run(t, "", append([]string{aditBin}, args...)...)
}

// A server is a running adit server.
type server struct {
	*process
	addr string // listen address, HOST:PORT
}

// server starts adit server and waits until it listens. A test that does not stop it does so at its
// end, and then it has to exit cleanly.
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

// client starts adit client and waits until its link is up.
func (h *host) client(t *testing.T, args ...string) *client {
	t.Helper()
	c := h.clientUnlinked(t, args...)
	c.wait(t, linkUp, 1)
	return c
}

// clientUnlinked starts adit client and does not wait for its link.
func (h *host) clientUnlinked(t *testing.T, args ...string) *client {
	t.Helper()
	p := h.start(t, "adit client", spec{argv: append([]string{aditBin, "client"}, args...)})
	cleanStop(t, p)
	return &client{p}
}

// Messages of the client's log.
const (
	linkUp       = `msg="link up"`       // a session has been made
	linkLost     = `msg="link lost"`     // the session has no connection
	linkResumed  = `msg="link resumed"`  // the session has a new connection
	linkMigrated = `msg="link migrated"` // from one connection to another
	linkReplaced = `msg="link replaced"` // new streams use another session
	linkDown     = `msg="link down"`     // the session has ended
	streamLost   = `msg="stream lost"`
)

// listens waits until the client listens for its forward to target, and returns the address.
func (c *client) listens(t *testing.T, target string) string {
	t.Helper()
	return c.wait(t, `msg=listening forward=\S+ target=`+regexp.QuoteMeta(target)+` addr=(\S+)`, 1)[1]
}

// cleanStop stops the process at the end of the test unless the test has done so. It is an error if
// the process ended by itself.
func cleanStop(t *testing.T, p *process) {
	t.Cleanup(func() {
		if !p.stopped {
			p.stop(t)
		}
	})
}

// An account is a user of a server: the client has the token file, the server has the hash.
type account struct {
	name, tokenFile, hash string
}

// newAccount makes an account with adit token.
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

// users returns the [[user]] table of the account for the server's configuration.
func (a account) users(allow ...string) string {
	return fmt.Sprintf("[[user]]\nname = %q\ntoken-hash = %q\nallow = [\"%s\"]\n", a.name, a.hash, strings.Join(allow, `", "`))
}

// A gateway is the host behind the tunnel in network tests: its backends, its key pair and its
// user.
type gateway struct {
	host     *host
	backends *backends
	pair     keyPair
	alice    account
}

// gatewayURL is the URL of the gateway's tunnel endpoint.
const gatewayURL = "wss://" + gatewayName + tunnelPath

// newGateway makes a host and starts the given backends on it.
func newGateway(t *testing.T, start ...func(*backends, *testing.T)) *gateway {
	t.Helper()
	h := isolated(t, "gateway")
	b := &backends{host: h, dir: workDir(t)}
	for _, start := range start {
		start(b, t)
	}
	return &gateway{h, b, newKeyPair(t, gatewayName), newAccount(t, h, "alice")}
}

// serve starts the gateway's server: on port 443 of the gateway's address, or behind a reverse
// proxy that listens there.
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

// connect starts a client on h with a forward to every backend, and returns its user. proxy is
// empty for none.
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
		// The command line takes the proxy from the environment instead.
		command = append([]string{"env", "HTTPS_PROXY=" + proxy}, command...)
	}
	conf += fmt.Sprintf("[tls]\nca = %q\n", g.pair.ca)
	user := &tunnelUser{at: h, backends: g.backends, wCommand: command, url: gatewayURL}
	return h.clientUnlinked(t, "--config", writeFile(t, workDir(t), "client.toml", conf)), user
}
