package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/auth"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watchdog is how long a test waits for something that should happen soon.
const watchdog = 30 * time.Second

// gateway is a running server, with TLS on loopback.
type gateway struct {
	*Server
	addr string
	ca   *testnet.CA
	log  *testnet.Log
}

// start runs a server until the test ends. The server logs to g.log.
func start(t *testing.T, cfg Config, a Access) *gateway {
	t.Helper()
	ca := testnet.NewCA(t, "server test")
	config := ca.ServerConfig(t)
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, ca.Pool()
	return startTLS(t, cfg, a, ca, config)
}

func startTLS(t *testing.T, cfg Config, a Access, ca *testnet.CA, config *tls.Config) *gateway {
	t.Helper()
	g := &gateway{ca: ca, log: testnet.NewLog()}
	cfg.Logger = g.log.Logger
	var err error
	if g.Server, err = New(cfg, a); err != nil {
		t.Fatal(err)
	}
	ln := testnet.Listen(t)
	g.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln, config) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return g
}

// user returns a user with the token NAME-token and with rules.
func user(name string, allow ...string) auth.User {
	return auth.User{Name: name, TokenHashes: []string{auth.HashToken(name + "-token")}, Allow: allow}
}

func users(t *testing.T, list ...auth.User) *auth.Users {
	t.Helper()
	u, err := auth.NewUsers(list)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// dialer returns options to dial the tunnel as a user; "" sends no credentials.
func (g *gateway) dialer(name string) *dial.Options {
	return &dial.Options{
		TLS:  g.ca.ClientConfig(),
		Conn: ws.Options{LatestPongOnly: true},
		Authorization: func() (string, error) {
			if name == "" {
				return "", nil
			}
			return "Bearer " + name + "-token", nil
		},
	}
}

func (g *gateway) url() string { return "wss://" + g.addr + "/tunnel" }

// trySession opens a session as a user.
func (g *gateway) trySession(t *testing.T, name string) (*mux.Session, error) {
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	conn, err := dial.Dial(ctx, g.url(), g.dialer(name))
	if err != nil {
		return nil, err
	}
	return mux.Client(ctx, conn, &mux.Config{ResumeTimeout: -1})
}

// session is trySession that has to succeed; the session ends with the test.
func (g *gateway) session(t *testing.T, name string) *mux.Session {
	t.Helper()
	m, err := g.trySession(t, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func tcp(address string) mux.Target { return mux.Target{Kind: mux.TCP, Address: address} }
func unix(path string) mux.Target   { return mux.Target{Kind: mux.Unix, Address: path} }
func named(name string) mux.Target  { return mux.Target{Kind: mux.Named, Address: name} }
func open(t *testing.T, m *mux.Session, to mux.Target) (*mux.Stream, error) {
	t.Helper()
	st, err := m.Open(t.Context(), to)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { st.Close() })
	return st, st.Result()
}

// codeOf returns the code with which a target is refused, or Connected.
func codeOf(t *testing.T, m *mux.Session, to mux.Target) mux.Code {
	t.Helper()
	st, err := open(t, m, to)
	var refused *mux.RefusedError
	switch {
	case err == nil:
		st.Close()
		return mux.Connected
	case !errors.As(err, &refused):
		t.Fatalf("stream to %s: %v", to, err)
	}
	return refused.Code
}

func wantCode(t *testing.T, m *mux.Session, to mux.Target, want mux.Code) {
	t.Helper()
	if got := codeOf(t, m, to); got != want {
		t.Errorf("%s: %v, want %v", to, got, want)
	}
}

// mustEcho sends a text to an echo server over a stream and reads it back.
func mustEcho(t *testing.T, st *mux.Stream) {
	t.Helper()
	const text = "there and back"
	if _, err := st.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(st, b); err != nil || string(b) != text {
		t.Fatalf("echo: %q, %v", b, err)
	}
}

func mustOpen(t *testing.T, m *mux.Session, to mux.Target) *mux.Stream {
	t.Helper()
	st, err := open(t, m, to)
	if err != nil {
		t.Fatalf("stream to %s: %v", to, err)
	}
	return st
}

func ended(t *testing.T, m *mux.Session) error {
	t.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-time.After(watchdog):
		t.Fatal("the session goes on")
		return nil
	}
}

// dialTLS returns a connection after its TLS handshake.
func (g *gateway) dialTLS(t *testing.T, certs ...tls.Certificate) *tls.Conn {
	t.Helper()
	config := g.ca.ClientConfig()
	config.ServerName, config.NextProtos, config.Certificates = "localhost", []string{"http/1.1"}, certs
	c, err := tls.Dial("tcp", g.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(watchdog))
	return c
}

// request returns the text of a request with a first line and fields.
func request(line string, fields ...string) string {
	return line + "\r\nHost: gw.test\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// upgradeFields are the fields of a valid WebSocket handshake.
var upgradeFields = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

func upgrade(path string, fields ...string) string {
	return request("GET "+path+" HTTP/1.1", append(fields, upgradeFields...)...)
}

var dateField = regexp.MustCompile(`Date: [^\r]*\r\n`)

// ask sends a request on a new connection and returns the answer, also as its
// bytes without the date.
func (g *gateway) ask(t *testing.T, text string, certs ...tls.Certificate) (*http.Response, string) {
	t.Helper()
	return askOn(t, g.dialTLS(t, certs...), text)
}

func askOn(t *testing.T, c net.Conn, text string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	var raw bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &raw)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("answer to %q: %v", text, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("answer to %q: %v", text, err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, dateField.ReplaceAllString(raw.String(), "")
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: " + what)
		}
	}
}
