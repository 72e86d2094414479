//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// The tests of this file reproduce, against the binary, published advisories about similar
// programs. The table at the end of docs/security.md lists them.

// Every test that the table names exists.
func TestAdvisoriesTable(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(readFile(t, "../docs/security.md"), "## Advisories of the field")
	if !found {
		t.Fatal("docs/security.md has no chapter about advisories")
	}
	tests := regexp.MustCompile("((?:`\\w+`(?:, )?)+) \\(([\\w/]+)\\)")
	named := 0
	for line := range strings.Lines(table) {
		for _, m := range tests.FindAllStringSubmatch(line, -1) {
			files, err := filepath.Glob("../" + m[2] + "/*_test.go")
			if err != nil {
				t.Fatal(err)
			}
			var source strings.Builder
			for _, file := range files {
				source.WriteString(readFile(t, file))
			}
			for _, test := range regexp.MustCompile(`\w+`).FindAllString(m[1], -1) {
				named++
				if !strings.Contains(source.String(), "\nfunc "+test+"(") {
					t.Errorf("there is no test %s in %s", test, m[2])
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("%d tests are found in the table", named)
	}
}

// dialer returns a dialer with which tests act as a client other than adit client.
func (r *rig) dialer(t *testing.T, trust *tls.Config, authorization string) *dial.Options {
	t.Helper()
	return &dial.Options{TLS: trust, Authorization: func() (string, error) {
		return strings.TrimPrefix(authorization, "Authorization: "), nil
	}}
}

// session opens a session of the link protocol with the given credentials.
func (r *rig) session(t *testing.T, trust *tls.Config, authorization string) (*mux.Session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dial.Dial(ctx, "wss://"+r.server.addr+tunnelPath, r.dialer(t, trust, authorization))
	if err != nil {
		return nil, err
	}
	s, err := mux.Client(ctx, conn, &mux.Config{ResumeTimeout: -1})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { s.Close() })
	return s, nil
}

func (r *rig) mustSession(t *testing.T, authorization string) *mux.Session {
	t.Helper()
	s, err := r.session(t, r.pair.trust(t), authorization)
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	return s
}

// asks opens a stream and returns the code of the server's answer.
func asks(t *testing.T, s *mux.Session, kind mux.Kind, address string) mux.Code {
	t.Helper()
	st, err := s.Open(t.Context(), mux.Target{Kind: kind, Address: address})
	if err != nil {
		t.Fatalf("ask for %s: %v", address, err)
	}
	defer st.Close()
	err = st.Result()
	var refused *mux.RefusedError
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		t.Fatalf("ask for %s: %v", address, err)
	}
	return mux.Connected
}

func wantAnswer(t *testing.T, s *mux.Session, who, address string, want mux.Code) {
	t.Helper()
	if got := asks(t, s, mux.TCP, address); got != want {
		t.Errorf("%s asks for %s: %v, want %v", who, address, got, want)
	}
}

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

// command returns the argv of a subcommand. Arguments of the form NAME=VALUE become environment
// variables.
func command(subcommand string, args ...string) []string {
	argv := []string{"env"}
	var rest []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "ADIT_") {
			argv = append(argv, arg)
		} else {
			rest = append(rest, arg)
		}
	}
	return append(append(argv, aditBin, subcommand), rest...)
}

// exitStatus returns the exit status of a command that host.try has run.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
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
			t.Errorf("%s lets a client in", what)
		}
	}
}

// frp CVE-2026-40910: of two conflicting headers one decided where a request went and the other
// whether it was allowed. A doubled header is refused.
func TestAdvisoryConflictingHeaders(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	good := r.alice.bearer(t)
	for what, text := range map[string]string{
		"a good and a bad token": upgrade(tunnelPath, good, "Authorization: Bearer x"),
		"a bad and a good token": upgrade(tunnelPath, "Authorization: Bearer x", good),
		"a good token twice":     upgrade(tunnelPath, good, good),
		"two hosts":              upgrade(tunnelPath, good, "Host: other.test"),
		"two keys":               upgrade(tunnelPath, good, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
		"two versions":           upgrade(tunnelPath, good, "Sec-WebSocket-Version: 8"),
		"two lengths":            upgrade(tunnelPath, good, "Content-Length: 0", "Content-Length: 5"),
	} {
		if status, answer := ask(t, r.dialTLS(t), text); status != http.StatusBadRequest {
			t.Errorf("%s: want 400, got\n%s", what, answer)
		}
	}
	if status, answer := ask(t, r.dialTLS(t), upgrade(tunnelPath, good)); status != http.StatusSwitchingProtocols {
		t.Fatalf("each once:\n%s", answer)
	}
	r.undisturbed(t, echo)
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

// gorilla CVE-2020-27813 and undici: the length of a frame, or a compressed frame, made the reader
// allocate memory. adit allocates only for data that has arrived, and never negotiates compression.
func TestAdvisoryFrameLengths(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	tunnelled := func() *tls.Conn {
		conn := r.dialTLS(t)
		status, answer := ask(t, conn, upgrade(tunnelPath, r.alice.bearer(t), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: chat"))
		if status != http.StatusSwitchingProtocols || strings.Contains(answer, "Extensions") || strings.Contains(answer, "Protocol:") {
			t.Fatalf("the answer to an upgrade that offers compression:\n%s", answer)
		}
		return conn
	}
	const final, compressed, binaryFrame, masked = 0x80, 0x40, 2, 0x80
	length := func(n uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{final | binaryFrame, masked | 127}, n)
	}
	mask := []byte{0, 0, 0, 0}
	for _, c := range []struct {
		what string
		say  []byte
	}{
		{"2^63-1 bytes", append(append(length(1<<63-1), mask...), make([]byte, 10_000)...)},
		{"2^63 bytes", append(length(1<<63), mask...)},
		{"2^64-1 bytes", append(length(1<<64-1), mask...)},
		{"a compressed frame", append([]byte{final | compressed | binaryFrame, masked | 2}, 0, 0, 0, 0, 1, 2)},
		{"an unmasked frame", []byte{final | binaryFrame, 2, 1, 2}},
		{"a ping of 126 bytes", append([]byte{final | 9, masked | 126, 0, 126}, make([]byte, 130)...)},
	} {
		conn := tunnelled()
		if _, err := conn.Write(c.say); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		// The server closes the connection because of the fault, or because it receives no hello.
		if b, err := io.ReadAll(conn); errIsTimeout(err) {
			t.Errorf("%s: the connection stays open after %x", c.what, b)
		}
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// frp GHSA-26gq-p25f-99cp, rust-yamux CVE-2026-32314 and CVE-2024-32984: overflowing lengths, an
// oversized first frame, unlimited buffered frames. A user who violates the protocol loses the
// session; the server neither crashes nor grows.
func TestAdvisoryHostileFrames(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	hello := bytesOf("01 01 01 0004 00001000 02 0004 00010000")
	const first = "00 01 0001 00000001 020c0000" // a window update that opens the control stream
	frame := func(typ, flags byte, stream, length uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0, typ, 0, flags}, stream)
		return binary.BigEndian.AppendUint32(b, length)
	}
	const data, window, ping, syn = 0, 1, 2, 1
	message := func(yamux ...[]byte) []byte { return append(make([]byte, 9), bytes.Join(yamux, nil)...) }
	before := r.server.usage(t)
	for _, c := range []struct {
		what  string
		send  [][]byte // messages of link data, without their first byte
		times int
		lives bool // the session may stay open
	}{
		{what: "an oversized first frame", send: [][]byte{message(frame(data, syn, 1, 0xffffffff), make([]byte, 4096))}},
		{what: "an oversized frame", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 0xffffffff))}},
		{what: "a frame one above the bound", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 128<<10+5))}},
		{what: "a window that overflows", send: [][]byte{message(bytesOf(first), frame(window, syn, 3, 0xffffffff), frame(window, 0, 3, 0xffffffff), frame(window, 0, 3, 0xffffffff))}, times: 100, lives: true},
		{what: "a stream header of 64 KiB", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 4), []byte{1, 1, 0xff, 0xff})}, lives: true},
		{what: "a stream's frame of 16 MiB", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 8+uint32(len(echo))), []byte{1, 1, 0, byte(len(echo))}, []byte(echo), bytesOf("00 ffffff"))}, lives: true},
		{what: "pings", send: [][]byte{message(bytesOf(first), bytes.Repeat(frame(ping, syn, 0, 1), 10_000))}},
		{what: "an acknowledgement of what was not sent", send: [][]byte{bytesOf("00 ffffffffffffffff")}},
		{what: "streams without end", send: [][]byte{message(bytesOf(first), manyStreams(20_000))}, lives: true},
		{what: "a hello of 1 MiB", send: nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := dial.Dial(ctx, "wss://"+r.server.addr+tunnelPath, r.dialer(t, r.pair.trust(t), r.alice.bearer(t)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			greeting := hello
			if c.send == nil {
				greeting = make([]byte, 1<<20)
			}
			if err := conn.WriteMessage(ws.OpBinary, greeting); err != nil && c.send != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { // discard the answers
				defer close(ended)
				for {
					if _, err := conn.NextMessage(); err != nil {
						return
					}
				}
			}()
			for range max(c.times, 1) {
				for _, m := range c.send {
					m[0] = 2
					if err := conn.WriteMessage(ws.OpBinary, m); err != nil {
						break // the server has closed the connection
					}
				}
			}
			if c.lives {
				expectEcho(t, r.connect(t, echo))
				conn.CloseNow()
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the session is still open")
				conn.CloseNow()
				<-ended
			}
		})
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// bytesOf decodes hexadecimal digits.
func bytesOf(digits string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// manyStreams returns the frames that open n yamux streams and send nothing on them.
func manyStreams(n int) (frames []byte) {
	for i := range uint32(n) {
		frames = append(frames, 0, 1, 0, 1)
		frames = binary.BigEndian.AppendUint32(frames, 3+2*i)
		frames = append(frames, 0, 0, 0, 0)
	}
	return frames
}

// lighttpd CVE-2022-37797 and CVE-2022-41556: bad handshakes crashed the server, and each
// half-closed connection permanently used up a slot.
func TestAdvisoryHalfClosedConnections(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	trust := r.pair.trust(t)
	bad := upgrade(tunnelPath, r.alice.bearer(t))
	for i := range 10_000 {
		conn, err := net.DialTimeout("tcp", r.server.addr, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		if i%50 == 0 { // a truncated upgrade
			secure := tls.Client(conn, trust)
			if err := secure.Handshake(); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			io.WriteString(secure, bad[:len(bad)*(i/50)/200])
		}
		conn.(*net.TCPConn).CloseWrite()
		if i%2 == 0 {
			io.Copy(io.Discard, conn) // until the server closes
		}
		conn.Close()
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// Consul CVE-2020-7219: unlimited connections without credentials. The server bounds the number of
// ten thousand of them. TestUnauthenticatedSilence and TestUnauthenticatedFlood cover the time that
// each may last.
func TestAdvisoryUnauthenticatedConnections(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	conn := r.connect(t, echo)
	flood(t, r, 10_000, 50)
	if now := r.server.usage(t); now.descriptors > before.descriptors+4096+16 {
		t.Errorf("the server holds %v, before %v", now, before)
	}
	expectEcho(t, conn)
	r.undisturbed(t, echo)
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
