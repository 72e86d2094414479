//go:build linux

package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/mux"
)

// chisel CVE-2024-43798: a documented source of credentials was never read, which left servers
// open. The test tries every source without, with wrong and with right credentials.
func TestAdvisoryEverySourceOfUsers(t *testing.T) {
	t.Parallel()
	h := machine(t)
	ca := testnet.NewCA(t, "adit e2e CA")
	serverCert, serverKey := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{}))
	aliceCert, aliceKey := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{CommonName: "alice", Client: true}))
	otherCert, otherKey := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{CommonName: "mallory", Client: true}))
	caFile := ca.WritePEM(t)
	echo := testnet.Echo(t)
	alice := newAccount(t, h, "alice")
	users := writeFile(t, workDir(t), "users.toml", alice.users(echo))
	password := workDir(t) + "/password"
	if err := os.WriteFile(password, []byte("open-sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hash := h.run(t, secret("a password", "open-sesame")+"\n", aditBin, "token", "--password", "alice")
	passwords := writeFile(t, workDir(t), "users.toml", fmt.Sprintf("[[user]]\nname = \"alice\"\n%sallow = [%q]\n", hash, echo))
	certUsers := writeFile(t, workDir(t), "users.toml", fmt.Sprintf("[[user]]\nname = \"a\"\ncert-name = \"alice\"\nallow = [%q]\n", echo))
	wrong := workDir(t) + "/token"
	if err := os.WriteFile(wrong, []byte("adit_"+strings.Repeat("A", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(readFile(t, alice.tokenFile))
	clientConf := writeFile(t, workDir(t), "client.toml", fmt.Sprintf("token-file = %q\n", alice.tokenFile))

	byToken := [][]string{
		{"--token-file", alice.tokenFile}, {"ADIT_TOKEN_FILE=" + alice.tokenFile}, {"ADIT_TOKEN=" + token},
		{"--config", clientConf}, {"ADIT_CONFIG=" + clientConf}, {"ADIT_TOKEN=" + token, "--user", "alice"},
	}
	notByToken := [][]string{nil, {"--token-file", wrong}, {"ADIT_TOKEN=" + token + "x"}, {"ADIT_TOKEN=" + alice.hash},
		{"--token-file", alice.tokenFile, "--user", "bob"}}
	base := func(more string) string {
		return writeFile(t, workDir(t), "server.toml", more)
	}
	for _, c := range []struct {
		name   string
		server []string // flags, and environment variables NAME=VALUE
		yes    [][]string
		no     [][]string
	}{
		{"--users", []string{"--users", users}, byToken, notByToken},
		{"ADIT_USERS", []string{"ADIT_USERS=" + users}, byToken[:1], notByToken},
		{"users in the file", []string{"--config", base(fmt.Sprintf("users = %q\n", users))}, byToken[:1], notByToken},
		{"[[user]] in the file", []string{"--config", base(alice.users(echo))}, byToken[:1], notByToken},
		{"ADIT_CONFIG", []string{"ADIT_CONFIG=" + base(alice.users(echo))}, byToken[:1], notByToken},
		{"password", []string{"--users", passwords}, [][]string{{"--user", "alice", "--token-file", password}},
			[][]string{nil, {"--user", "alice", "--token-file", wrong}, {"--user", "bob", "--token-file", password}, {"--token-file", password}}},
		{"certificate", []string{"--users", certUsers, "--client-ca", caFile}, [][]string{{"--cert", aliceCert, "--key", aliceKey}},
			[][]string{nil, {"--cert", otherCert, "--key", otherKey}, {"--token-file", wrong}, {"--cert", aliceCert, "--key", aliceKey, "--token-file", wrong}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := h.start(t, "adit server", spec{argv: command("server", append([]string{"--listen", "127.0.0.1:0",
				"--tls-cert", serverCert, "--tls-key", serverKey, "--tunnel-path", tunnelPath}, c.server...)...)})
			cleanStop(t, p)
			url := "wss://" + p.wait(t, `msg=listening addr=(\S+)`, 1)[1] + tunnelPath
			check := func(credentials []string) (string, error) {
				return h.try(t, patience, "", command("check", append([]string{"--proxy", "none", "--ca", caFile, "--target", echo, url}, credentials...)...)...)
			}
			for _, credentials := range c.yes {
				if out, err := check(credentials); err != nil {
					t.Errorf("with %q: %v\n%s", credentials, err, out)
				}
			}
			for _, credentials := range c.no {
				out, err := check(credentials)
				if exitStatus(err) != 1 || !strings.Contains(out, "404") {
					t.Errorf("with %q: %v\n%s", credentials, err, out)
				}
			}
		})
	}
}

// chisel GHSA-24fp-5v3p-rvpw: the policy was checked at login, not for each stream. The attacker's
// own client requests targets that its user may not reach.
func TestAdvisoryPolicyForEachStream(t *testing.T) {
	t.Parallel()
	mine, other := testnet.Echo(t), testnet.Echo(t)
	r := setup{targets: []string{mine}}.start(t)
	s := r.mustSession(t, r.alice.bearer(t))
	for range 3 {
		wantAnswer(t, s, "alice", mine, mux.Connected)
		wantAnswer(t, s, "alice", other, mux.Forbidden)
	}
	for _, kind := range []mux.Kind{mux.Unix, mux.Named} {
		if got := asks(t, s, kind, "/run/dbus/system_bus_socket"); got != mux.Forbidden {
			t.Errorf("a target of kind %d: %v", kind, got)
		}
	}
	wantAnswer(t, s, "alice", mine, mux.Connected)
}

// wstunnel #442: a restriction to HOST:PORT checked the port only. The test tries every other way
// to write or to reach another host at the allowed port.
func TestAdvisoryOtherHostSamePort(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	for _, addr := range []string{"192.0.2.9", "192.0.2.10"} {
		h.ip(t, "addr add "+addr+"/32 dev lo")
	}
	h.ip(t, "addr add 169.254.169.254/32 dev lo scope host")
	for name, addr := range map[string]string{
		"db.lan.test": "192.0.2.9", "other.lan.test": "192.0.2.10", "inner.lan.test": "127.0.0.1",
		"meta.lan.test": "169.254.169.254", "evillan.test": "192.0.2.9", "mapped.lan.test": "::ffff:127.0.0.1",
	} {
		h.addName(t, name, addr)
	}
	// The listener accepts connections to every address of the host.
	l := h.listen(t, "0.0.0.0:0")
	serve(t, l, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	at := func(host string) string { return host + ":" + port }

	r := setup{at: h, targets: []string{at("192.0.2.9")}}.start(t)
	suffix, byName := newAccount(t, h, "suffix"), newAccount(t, h, "name")
	users := writeFile(t, workDir(t), "users.toml", r.alice.users(at("192.0.2.9"))+suffix.users(at("*.lan.test"))+byName.users(at("db.lan.test")))
	r.server = h.server(t, "--listen", "127.0.0.1:0", "--tls-cert", r.pair.cert, "--tls-key", r.pair.key, "--users", users)
	sessions := map[string]*mux.Session{}
	h.do(func() {
		for _, a := range []account{r.alice, suffix, byName} {
			sessions[a.name] = r.mustSession(t, a.bearer(t))
		}
	})
	for _, c := range []struct {
		user, host string
		want       mux.Code
	}{
		{"alice", "192.0.2.9", mux.Connected},
		{"alice", "[::ffff:192.0.2.9]", mux.Connected}, // the same host
		{"alice", "db.lan.test", mux.Connected},        // resolves to it
		{"alice", "other.lan.test", mux.Forbidden},
		{"alice", "192.0.2.10", mux.Forbidden},
		{"alice", "[::ffff:192.0.2.10]", mux.Forbidden},
		{"alice", "[::ffff:127.0.0.1]", mux.Forbidden},
		{"alice", "127.0.0.1", mux.Forbidden},
		{"alice", "localhost", mux.Forbidden},
		{"alice", "127.1", mux.Forbidden},
		{"alice", "0.0.0.0", mux.Forbidden},
		{"alice", "[::]", mux.Forbidden},
		{"alice", "169.254.169.254", mux.Forbidden},
		{"suffix", "db.lan.test", mux.Connected},
		{"suffix", "DB.Lan.Test.", mux.Connected},
		{"suffix", "inner.lan.test", mux.Forbidden},
		{"suffix", "mapped.lan.test", mux.Forbidden},
		{"suffix", "meta.lan.test", mux.Forbidden},
		{"suffix", "evillan.test", mux.Forbidden},
		{"suffix", "192.0.2.9", mux.Forbidden},
		{"name", "db.lan.test", mux.Connected},
		{"name", "db.lan.test.", mux.Connected},
		{"name", "other.lan.test", mux.Forbidden},
		{"name", "192.0.2.9", mux.Forbidden},
	} {
		wantAnswer(t, sessions[c.user], c.user, at(c.host), c.want)
	}
}

// wstunnel PR #272: a client with one certificate could use the rights of another certificate. Here
// a certificate identifies exactly one user.
func TestAdvisoryOthersCertificate(t *testing.T) {
	t.Parallel()
	h := machine(t)
	ca := testnet.NewCA(t, "adit e2e CA")
	cert, key := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{}))
	caFile := ca.WritePEM(t)
	toAlice, toBob := testnet.Echo(t), testnet.Echo(t)
	bob := newAccount(t, h, "bob")
	users := writeFile(t, workDir(t), "users.toml",
		fmt.Sprintf("[[user]]\nname = \"alice\"\ncert-name = \"alice@example.com\"\nallow = [%q]\n", toAlice)+
			bob.users(toBob)+"cert-name = \"bob@example.com\"\n")
	r := &rig{host: h, server: h.server(t, "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--client-ca", caFile, "--users", users)}
	with := func(from *testnet.CA, email string) *tls.Config {
		conf := ca.ClientConfig()
		if from != nil {
			leaf := from.Issue(t, testnet.Leaf{Emails: []string{email}, Client: true})
			// The client sends its certificate even if the server does not name its issuer.
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &leaf, nil }
		}
		return conf
	}
	s, err := r.session(t, with(ca, "alice@example.com"), "")
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, s, "alice", toAlice, mux.Connected)
	wantAnswer(t, s, "alice", toBob, mux.Forbidden)
	s, err = r.session(t, with(ca, "bob@example.com"), bob.bearer(t))
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, s, "bob", toBob, mux.Connected)
	wantAnswer(t, s, "bob", toAlice, mux.Forbidden)
	for what, try := range map[string]func() (*mux.Session, error){
		"alice's certificate with bob's token": func() (*mux.Session, error) {
			return r.session(t, with(ca, "alice@example.com"), bob.bearer(t))
		},
		"an unknown name": func() (*mux.Session, error) { return r.session(t, with(ca, "mallory@example.com"), "") },
		"alice's name from another authority": func() (*mux.Session, error) {
			return r.session(t, with(testnet.NewCA(t, "adit e2e CA"), "alice@example.com"), "")
		},
		"no certificate": func() (*mux.Session, error) { return r.session(t, with(nil, ""), "") },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// gost CVE-2024-39223: the peer's key was not verified. The client sends no token to a server that
// it has no reason to trust.
func TestAdvisoryUntrustedServer(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	other := newKeyPair(t, "localhost", "127.0.0.1")
	url := "wss://" + r.server.addr + tunnelPath
	for _, c := range []struct {
		what string
		want int
		args []string
	}{
		{"nothing to trust it by", 1, nil},
		{"another authority", 1, []string{"--ca", other.ca}},
		{"another key", 1, []string{"--pin", strings.TrimSpace(r.host.adit(t, "pin", other.cert))}},
		{"another name", 1, []string{"--ca", r.pair.ca, "--server-name", "gw.example.com"}},
		{"its authority", 0, []string{"--ca", r.pair.ca}},
		{"its key", 0, []string{"--pin", strings.TrimSpace(r.host.adit(t, "pin", r.pair.cert))}},
	} {
		out, err := r.host.try(t, patience, "", append([]string{aditBin, "check", "--proxy", "none", "--token-file", r.alice.tokenFile, url}, c.args...)...)
		if exitStatus(err) != c.want || c.want == 1 && !strings.Contains(out, "✗ TLS") {
			t.Errorf("%s: %v\n%s", c.what, err, out)
		}
	}
}

// gogs GHSA-w6j9-vw59-27wv: the identity came from a header that anybody can set. The address in
// the log and in the limit on failed authentications is the connection's; the user is the
// authenticated one.
func TestAdvisoryForgedIdentity(t *testing.T) {
	t.Parallel()
	h := machine(t)
	echo := testnet.Echo(t)
	pair := newKeyPair(t, "localhost", "127.0.0.1")
	hash := h.run(t, secret("a password", "open-sesame")+"\n", aditBin, "token", "--password", "alice")
	users := writeFile(t, workDir(t), "users.toml", fmt.Sprintf("[[user]]\nname = \"alice\"\n%scert-name = \"alice\"\nallow = [%q]\n", hash, echo))
	r := &rig{host: h, pair: pair, server: h.server(t, "--listen", "127.0.0.1:0", "--tls-cert", pair.cert, "--tls-key", pair.key,
		"--tunnel-path", tunnelPath, "--client-ca", pair.ca, "--users", users)}
	forged := func(i int) []string {
		addr := fmt.Sprintf("198.51.100.%d", i)
		return []string{"X-Forwarded-For: " + addr, "X-Real-IP: " + addr, "Forwarded: for=" + addr,
			"X-Forwarded-User: alice", "X-Remote-User: alice", "X-SSL-Client-S-DN: CN=alice", "X-Client-Cert: alice"}
	}
	if status, answer := ask(t, r.dialTLS(t), upgrade(tunnelPath, forged(1)...)); status != http.StatusNotFound {
		t.Errorf("headers that claim to be alice:\n%s", answer)
	}
	// The requests claim another address each.
	conn := r.dialTLS(t)
	for i := range 20 {
		guess := "Authorization: Basic " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "alice:guess %d", i))
		if status, answer := ask(t, conn, upgrade(tunnelPath, append(forged(i), guess)...)); status != http.StatusNotFound {
			t.Fatalf("guess %d:\n%s", i, answer)
		}
	}
	if n := r.server.count(`authentication failed.*too many`); n == 0 {
		t.Error("guesses that seem to come from many addresses are not slowed down")
	}
	r.server.wait(t, `authentication failed" addr=127\.0\.0\.1:`, 1)
	if n := r.server.count(`198\.51\.100`); n != 0 {
		t.Errorf("the log has the forged address %d times", n)
	}
}

// Cross-site WebSocket hijacking: a browser adds its user's certificate or password to requests of
// any page. A page of another origin gets no tunnel.
func TestAdvisoryForeignPage(t *testing.T) {
	t.Parallel()
	h := machine(t)
	ca := testnet.NewCA(t, "adit e2e CA")
	cert, key := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{}))
	caFile := ca.WritePEM(t)
	hash := h.run(t, secret("a password", "open-sesame")+"\n", aditBin, "token", "--password", "alice")
	users := writeFile(t, workDir(t), "users.toml", fmt.Sprintf("[[user]]\nname = \"alice\"\n%scert-name = \"alice\"\nallow = [\"127.0.0.1:7\"]\n", hash))
	s := h.server(t, "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tunnel-path", tunnelPath, "--client-ca", caFile, "--users", users)
	browser := ca.ClientConfig()
	browser.ServerName = "localhost"
	withCert := browser.Clone()
	withCert.Certificates = []tls.Certificate{ca.Issue(t, testnet.Leaf{CommonName: "alice", Client: true})}
	password := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:open-sesame"))
	for _, c := range []struct {
		fields []string
		want   int
	}{
		{nil, http.StatusSwitchingProtocols}, // not a browser
		{[]string{"Origin: https://gw.test"}, http.StatusSwitchingProtocols},
		{[]string{"Origin: https://evil.test"}, http.StatusNotFound},
		{[]string{"Origin: https://gw.test.evil.test"}, http.StatusNotFound},
		{[]string{"Origin: null"}, http.StatusNotFound},
		{[]string{"Origin: "}, http.StatusNotFound},
	} {
		for _, as := range []struct {
			conf   *tls.Config
			fields []string
		}{{withCert, nil}, {browser, []string{password}}} {
			raw, err := h.dial(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			raw.SetDeadline(time.Now().Add(patience))
			conn := tls.Client(raw, as.conf)
			if status, answer := ask(t, conn, upgrade(tunnelPath, append(c.fields, as.fields...)...)); status != c.want {
				t.Errorf("%q: want %d, got\n%s", c.fields, c.want, answer)
			}
			raw.Close()
		}
	}
}
