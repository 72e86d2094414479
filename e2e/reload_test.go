//go:build linux

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// A reload applies a valid configuration as a whole and nothing of an invalid one. Streams of users
// that it does not concern continue; removed users are disconnected.
func TestReloadUsers(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	bob, carol := newAccount(t, r.host, "bob"), newAccount(t, r.host, "carol")
	conf := filepath.Join(workDir(t), "server.toml")
	write := func(users string) {
		t.Helper()
		text := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\n[tls]\ncert = %q\nkey = %q\n[tunnel]\npath = %q\n", r.pair.cert, r.pair.key, tunnelPath) + users
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(r.alice.users(a.addr) + bob.users(a.addr))
	s := r.host.server(t, "--config", conf)
	client := func(user account, flags ...string) (*client, string) {
		t.Helper()
		c := r.host.clientUnlinked(t, append(flags, "--proxy", "none", "--token-file", user.tokenFile, "--ca", r.pair.ca,
			"-L", "127.0.0.1:0:"+a.addr, "wss://"+s.addr+tunnelPath)...)
		return c, c.listens(t, a.addr)
	}
	connect := func(addr string) (near, far *net.TCPConn) {
		t.Helper()
		r.local[a.addr] = addr
		return r.open(t, a)
	}
	asAlice, toAlice := client(r.alice)
	asBob, toBob := client(bob)
	aliceNear, aliceFar := connect(toAlice)
	bobNear, bobFar := connect(toBob)
	asCarol, _ := client(carol)
	asCarol.wait(t, `msg="refused by server".*404`, 1)

	// An invalid file: every fault is logged, and nothing changes.
	write(r.alice.users(a.addr) + carol.users("127.0.0.1:http") + "[[target]]\nname = \"x\"\n")
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg="reload failed".*rule`, 1)
	s.wait(t, `msg="reload failed".*target`, 1)
	passByte(t, aliceNear, aliceFar)
	passByte(t, bobNear, bobFar)
	connect(toBob)
	if s.count(`msg=reloaded`) != 0 || asCarol.count(linkUp) != 0 {
		t.Error("a bad configuration is in force")
	}

	// A valid file: bob is removed, carol is new, alice may reach another target.
	write(r.alice.users("127.0.0.1:7") + carol.users(a.addr))
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded users=2`, 1)
	wantReset(t, "bob", bobNear)
	wantReset(t, "the backend of bob", bobFar)
	asBob.wait(t, linkDown+`.*may no longer use the server`, 1)
	asBob.wait(t, `msg="refused by server".*404`, 1)
	// Reconnect now.
	asCarol.signal(t, syscall.SIGHUP)
	asCarol.wait(t, linkUp, 1)
	passByte(t, aliceNear, aliceFar)
	passByte(t, aliceFar, aliceNear)
	r.local[a.addr] = toAlice
	r.wantNoConnection(t, a.addr)
	asAlice.wait(t, `msg="stream refused".*code=forbidden`, 1)
	if asAlice.count(linkDown) != 0 {
		t.Error("alice's session ended")
	}
}

// While a user has two token hashes, the client changes to the new token by a reload. Removing the old
// hash then resets nothing.
func TestTokenRotationKeepsStreams(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	old, next := r.alice, newAccount(t, r.host, "alice")
	conf := filepath.Join(workDir(t), "server.toml")
	write := func(hashes string) {
		t.Helper()
		text := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\n[tls]\ncert = %q\nkey = %q\n[tunnel]\npath = %q\n[[user]]\nname = \"alice\"\ntoken-hash = %s\nallow = [%q]\n",
			r.pair.cert, r.pair.key, tunnelPath, hashes, a.addr)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("%q", old.hash))
	s := r.host.server(t, "--config", conf)
	token := filepath.Join(workDir(t), "token")
	install := func(from string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install(old.tokenFile)
	c := r.host.client(t, "--proxy", "none", "--token-file", token, "--ca", r.pair.ca, "-L", "127.0.0.1:0:"+a.addr, "wss://"+s.addr+tunnelPath)
	r.local[a.addr] = c.listens(t, a.addr)
	near, far := r.open(t, a)

	write(fmt.Sprintf("[%q, %q]", old.hash, next.hash))
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded`, 1)
	passByte(t, near, far)
	install(next.tokenFile)
	c.signal(t, syscall.SIGHUP)
	c.wait(t, `msg="link migrated"`, 1)
	write(fmt.Sprintf("%q", next.hash))
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded`, 2)
	passByte(t, near, far)
	passByte(t, far, near)
	if c.count(linkDown) != 0 {
		t.Error("the session ended")
	}
}

// serial returns the serial number of the server's certificate.
func serial(t *testing.T, h *host, addr string) string {
	t.Helper()
	raw, err := h.dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

const askedToMove = `msg="migrating clients to the new certificate" sessions=1`

// Replaced certificate files are used after SIGHUP at once, and otherwise within seconds; clients
// migrate to connections with the new certificate and streams continue. An invalid pair is rejected
// and logged.
func TestReloadCertificate(t *testing.T) {
	t.Parallel()
	ca := testnet.NewCA(t, "adit e2e CA")
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	dir := workDir(t)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	install := func(cert, key string) {
		t.Helper()
		for from, to := range map[string]string{cert: certFile, key: keyFile} {
			if err := os.WriteFile(to+".new", []byte(readFile(t, from)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(to+".new", to); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew := func() (cert, key, number string) {
		t.Helper()
		pair := ca.Issue(t, testnet.Leaf{})
		cert, key = testnet.WriteCert(t, pair)
		return cert, key, pair.Leaf.SerialNumber.String()
	}
	cert, key, number := renew()
	install(cert, key)
	users := writeFile(t, dir, "users.toml", r.alice.users(echo))
	s := r.host.server(t, "--listen", "127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile, "--tunnel-path", tunnelPath, "--users", users)
	c := r.host.client(t, "--proxy", "none", "--token-file", r.alice.tokenFile, "--ca", ca.WritePEM(t), "-L", "127.0.0.1:0:"+echo, "wss://"+s.addr+tunnelPath)
	r.local[echo] = c.listens(t, echo)
	conn := r.connect(t, echo)
	wantServed := func(want, when string) {
		t.Helper()
		eventually(t, patience, "the right certificate is served "+when, func() error {
			if got := serial(t, r.host, s.addr); got != want {
				return fmt.Errorf("the served serial number is %s, want %s", got, want)
			}
			return nil
		})
	}
	wantServed(number, "at the start")

	cert, key, number = renew()
	install(cert, key)
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded`, 1)
	wantServed(number, "after SIGHUP")
	s.wait(t, askedToMove, 1)
	c.wait(t, linkMigrated, 1)
	// A reload without a change.
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded`, 2)

	cert, key, number = renew()
	install(cert, key)
	s.wait(t, `msg="certificate reloaded"`, 1)
	wantServed(number, "without SIGHUP")
	s.wait(t, askedToMove, 2)
	c.wait(t, linkMigrated, 2)

	// A certificate and a key that do not match.
	_, otherKey, _ := renew()
	install(cert, otherKey)
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg="reload failed".*tls-key|msg="reload failed".*tls-cert`, 1)
	wantServed(number, "beside a bad pair")
	if err := os.WriteFile(certFile, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg="reload failed"`, 2)
	wantServed(number, "beside garbage")

	cert, key, number = renew()
	install(cert, key)
	s.signal(t, syscall.SIGHUP)
	s.wait(t, `msg=reloaded`, 3)
	wantServed(number, "once the pair is valid again")
	c.wait(t, linkMigrated, 3)
	expectEcho(t, conn)
	if c.count(linkDown) != 0 || c.count(linkLost) != 0 {
		t.Error("the session ended")
	}
	if n := s.count(askedToMove); n != 3 {
		t.Errorf("migration was requested %d times, for 3 certificates", n)
	}
}

// A self-signed key is made once and kept, so that clients that pin it can connect after a restart.
func TestSelfSignedKeyPersists(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	h := machine(t)
	alice := newAccount(t, h, "alice")
	state := filepath.Join(workDir(t), "tls")
	users := writeFile(t, workDir(t), "users.toml", alice.users(echo))
	start := func(listen string) (s *server, pin, isNew string) {
		t.Helper()
		s = h.server(t, "--listen", listen, "--self-signed", state, "--tunnel-path", tunnelPath, "--users", users)
		m := s.wait(t, `msg="self-signed certificate.*pin="?(sha256:[^" ]+)"? new=(\w+)`, 1)
		return s, m[1], m[2]
	}
	s, pin, isNew := start("127.0.0.1:0")
	if isNew != "true" {
		t.Error("the first start finds a key")
	}
	if got := strings.TrimSpace(h.adit(t, "pin", filepath.Join(state, "cert.pem"))); got != pin {
		t.Errorf("adit pin says %s of the file, the server %s", got, pin)
	}
	c := h.client(t, "--proxy", "none", "--token-file", alice.tokenFile, "--pin", pin, "-L", "127.0.0.1:0:"+echo, "wss://"+s.addr+tunnelPath)
	forward := c.listens(t, echo)
	for restart := range 2 {
		s.stop(t)
		c.wait(t, linkDown, restart+1)
		again, pinAgain, isNew := start(s.addr)
		if pinAgain != pin || isNew != "false" {
			t.Errorf("after restart %d the pin is %s, new=%s; before it was %s", restart, pinAgain, isNew, pin)
		}
		s = again
		conn, err := h.dial(forward)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		expectEcho(t, conn.(*net.TCPConn))
		conn.Close()
		c.wait(t, linkUp, restart+2)
	}
	for _, file := range []string{"key.pem", "."} {
		info, err := os.Stat(filepath.Join(state, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("other users may access %s: %v", file, info.Mode())
		}
	}
}

// adit demo transfers data each way, prints commands that work, and stops on Ctrl-C.
func TestDemo(t *testing.T) {
	t.Parallel()
	h := machine(t)
	p := h.start(t, "adit demo", spec{argv: []string{aditBin, "demo", "--size", "16"}})
	for _, way := range []string{"up", "down"} {
		p.wait(t, `^✓ `+way+` .*16\.0 MiB in .*/s, sha256 [0-9a-f]{16}`, 1)
	}
	page := p.wait(t, `^  curl (http://\S+)`, 1)[1]
	publicAddr := p.wait(t, `^  curl -k https://([^/]+)/`, 1)[1]
	token := p.wait(t, `^  export (ADIT_TOKEN=\S+)`, 1)[1]
	check := strings.Fields(p.wait(t, `^  adit (check .*)`, 1)[1])
	client := strings.Fields(p.wait(t, `^  adit (client .*)`, 1)[1])

	body := func(conn net.Conn) string {
		t.Helper()
		_, answer := ask(t, conn, request("GET / HTTP/1.1"))
		return answer
	}
	conn, err := h.dial(strings.Trim(strings.TrimPrefix(page, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := body(conn); !strings.Contains(got, "through the tunnel") {
		t.Errorf("the backend's page:\n%s", got)
	}
	raw, err := h.dial(publicAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if got := body(tls.Client(raw, &tls.Config{InsecureSkipVerify: true})); strings.Contains(strings.ToLower(got), "adit") {
		t.Errorf("an unauthenticated client learns what it is:\n%s", got)
	}
	if out, err := h.try(t, patience, "", append([]string{"env", token, aditBin}, check...)...); err != nil {
		t.Errorf("adit %s: %v\n%s", strings.Join(check, " "), err, out)
	}
	for i, arg := range client {
		client[i] = regexp.MustCompile(`^8080:`).ReplaceAllString(arg, "127.0.0.1:0:")
	}
	c := h.start(t, "adit client", spec{argv: append([]string{"env", token, aditBin}, client...)})
	cleanStop(t, c)
	c.wait(t, linkUp, 1)

	p.signal(t, syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the demo still runs after SIGINT")
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("the demo ended with %v after SIGINT", p.cmd.ProcessState)
	}
	if conn, err := h.dial(publicAddr); err == nil {
		conn.Close()
		t.Error("something of the demo still listens")
	} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, io.EOF) {
		t.Errorf("after the demo: %v", err)
	}
}
