package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"adit/auth"
	"adit/internal/testnet"
)

// sites returns the kinds of site, none of which has a page at the tunnel's path.
func sites(t *testing.T) map[string]http.Handler {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<p>welcome"), 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := DirSite(dir)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]http.Handler{
		"default": nil,
		"dir":     files,
		"custom": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Served-By", "nobody")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, strings.Repeat("nothing here\n", 1000))
		}),
	}
}

func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func TestUnauthenticatedClientSeesTheSite(t *testing.T) {
	const good = "Authorization: Bearer alice-token"
	requests := map[string]string{
		"plain":                       request("GET /tunnel HTTP/1.1"),
		"plain with the right token":  request("GET /tunnel HTTP/1.1", good),
		"plain with a wrong token":    request("GET /tunnel HTTP/1.1", "Authorization: Bearer x"),
		"no token":                    upgrade("/tunnel"),
		"empty":                       upgrade("/tunnel", "Authorization: "),
		"wrong token":                 upgrade("/tunnel", "Authorization: Bearer alice-toker"),
		"token's prefix":              upgrade("/tunnel", "Authorization: Bearer alice-toke"),
		"empty token":                 upgrade("/tunnel", "Authorization: Bearer "),
		"scheme alone":                upgrade("/tunnel", "Authorization: Bearer"),
		"no scheme":                   upgrade("/tunnel", "Authorization: alice-token"),
		"other scheme":                upgrade("/tunnel", "Authorization: Digest alice-token"),
		"token and more":              upgrade("/tunnel", good+" x"),
		"the hash as token":           upgrade("/tunnel", "Authorization: Bearer "+auth.HashToken("alice-token")),
		"long":                        upgrade("/tunnel", "Authorization: Bearer "+strings.Repeat("a", 8000)),
		"Basic, wrong password":       upgrade("/tunnel", basic("alice", "x")),
		"Basic, unknown name":         upgrade("/tunnel", basic("mallory", "alice-token")),
		"Basic, another's token":      upgrade("/tunnel", basic("bob", "alice-token")),
		"Basic, not base64":           upgrade("/tunnel", "Authorization: Basic !!!"),
		"Basic, no colon":             upgrade("/tunnel", "Authorization: Basic YWxpY2U="),
		"Proxy-Authorization":         upgrade("/tunnel", "Proxy-Authorization: Bearer alice-token"),
		"token in the query":          upgrade("/tunnel?access_token=alice-token"),
		"wrong path":                  upgrade("/nowhere"),
		"wrong path, right token":     upgrade("/nowhere", good),
		"wrong path, wrong token":     upgrade("/nowhere", "Authorization: Bearer x"),
		"longer path, right token":    upgrade("/tunnel/", good),
		"other case, right token":     upgrade("/Tunnel", good),
		"bad version, no token":       strings.Replace(upgrade("/tunnel"), "Version: 13", "Version: 8", 1),
		"no key, no token":            strings.Replace(upgrade("/tunnel"), "Sec-WebSocket-Key", "X-Key", 1),
		"no upgrade with the token":   request("GET /tunnel HTTP/1.1", good, "Connection: Upgrade", "Upgrade: h2c"),
		"no connection with a token":  request("GET /tunnel HTTP/1.1", good, "Upgrade: websocket"),
		"POST with the right token":   strings.Replace(upgrade("/tunnel", good), "GET", "POST", 1),
		"an escaped path, no token":   upgrade("/%74unnel"),
		"absolute form, no token":     upgrade("http://gw.test/tunnel"),
		"a forged client certificate": upgrade("/tunnel", "X-SSL-Client-S-DN: CN=alice", "X-Forwarded-For: 127.0.0.1"),
	}
	for name, site := range sites(t) {
		t.Run(name, func(t *testing.T) {
			g := start(t, Config{Site: site}, Access{Users: users(t, user("alice"), user("bob"))})
			resp, want := g.ask(t, request("GET /nowhere HTTP/1.1"))
			if resp.StatusCode != http.StatusNotFound {
				t.Fatalf("the site's answer is %s", resp.Status)
			}
			for what, text := range requests {
				if _, got := g.ask(t, text); got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
				}
			}
			// The connection stays open, as one to a site does.
			c := g.dialTLS(t)
			for range 3 {
				if _, got := askOn(t, c, upgrade("/tunnel")); got != want {
					t.Errorf("again: got\n%s", got)
				}
			}
		})
	}
}

func TestDuplicateAuthorization(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice"))})
	const good = "Authorization: Bearer alice-token"
	var first string
	for _, path := range []string{"/", "/tunnel", "/nowhere"} {
		for _, text := range []string{upgrade(path, good, good), upgrade(path, good, "Authorization: x"), request("GET "+path+" HTTP/1.1", good, good)} {
			resp, raw := g.ask(t, text)
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%q: %s", text, resp.Status)
			}
			if first == "" {
				first = raw
			}
			if raw != first {
				t.Errorf("%q: got\n%s\nwant\n%s", text, raw, first)
			}
		}
	}
}

func TestCredentials(t *testing.T) {
	cert := user("carol")
	cert.TokenHashes, cert.CertName = nil, "carol@example.com"
	g := start(t, Config{CertNames: func(c *x509.Certificate) []string { return c.EmailAddresses }},
		Access{Users: users(t, user("alice"), user("bob"), cert)})
	other := testnet.NewCA(t, "another CA")
	carol := g.ca.Issue(t, testnet.Leaf{Client: true, Emails: []string{"carol@example.com"}})
	dave := g.ca.Issue(t, testnet.Leaf{Client: true, Emails: []string{"dave@example.com"}})
	for _, c := range []struct {
		name   string
		field  string
		cert   *tls.Certificate
		status int
	}{
		{"Bearer", "Authorization: Bearer alice-token", nil, 101},
		{"bearer", "authorization: bearer alice-token", nil, 101},
		{"two spaces", "Authorization: Bearer  alice-token", nil, 101},
		{"Basic", basic("alice", "alice-token"), nil, 101},
		{"certificate", "X-Nothing: 1", &carol, 101},
		{"certificate of nobody", "X-Nothing: 1", &dave, 404},
		{"certificate of nobody, a token", "Authorization: Bearer alice-token", &dave, 101},
		{"certificate and another's token", "Authorization: Bearer alice-token", &carol, 404},
		{"certificate and a wrong token", "Authorization: Bearer x", &carol, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			var certs []tls.Certificate
			if c.cert != nil {
				certs = append(certs, *c.cert)
			}
			conn := g.dialTLS(t, certs...)
			if _, err := io.WriteString(conn, upgrade("/tunnel", c.field)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len("HTTP/1.1 101"))
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != fmt.Sprintf("HTTP/1.1 %d", c.status) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	// A certificate of another CA fails the TLS handshake.
	config := g.ca.ClientConfig()
	forged := other.Issue(t, testnet.Leaf{Client: true, Emails: []string{"carol@example.com"}})
	config.ServerName = "localhost"
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &forged, nil }
	c, err := tls.Dial("tcp", g.addr, config)
	if err == nil {
		defer c.Close()
		io.WriteString(c, upgrade("/tunnel"))
		if b, err := io.ReadAll(c); err == nil {
			t.Errorf("a certificate of another CA is answered with %q", b)
		}
	}
}

// An upgrade is authenticated at every path, so that the time taken does not
// depend on the path.
func TestAuthenticationOnAllPaths(t *testing.T) {
	var judged atomic.Int32
	g := start(t, Config{CertNames: func(*x509.Certificate) []string {
		judged.Add(1)
		return []string{"nobody"}
	}}, Access{Users: users(t, user("alice"))})
	cert := g.ca.Issue(t, testnet.Leaf{Client: true, CommonName: "nobody"})
	for _, path := range []string{"/", "/tunnel", "/nowhere"} {
		for _, field := range []string{"X-Nothing: 1", "Authorization: Bearer x", basic("alice", "x")} {
			judged.Store(0)
			g.ask(t, upgrade(path, field), cert)
			if n := judged.Load(); n != 1 {
				t.Errorf("upgrade at %s, %s: judged %d times", path, field, n)
			}
			judged.Store(0)
			g.ask(t, request("GET "+path+" HTTP/1.1", field), cert)
			if n := judged.Load(); n != 0 {
				t.Errorf("plain request for %s, %s: judged %d times", path, field, n)
			}
		}
	}
	// Each path leaves the same number of log lines.
	for _, path := range []string{"/", "/tunnel", "/nowhere"} {
		if n := len(g.log.Lines("authentication failed", "path="+path+" ")); n != 3 {
			t.Errorf("%d log lines for %s", n, path)
		}
	}
	if lines := g.log.Lines("Bearer"); len(lines) > 0 {
		t.Errorf("the log has credentials: %q", lines)
	}
}

func TestBadHandshakeByUser(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice"))})
	good := upgrade("/tunnel", "Authorization: Bearer alice-token")
	for _, c := range []struct {
		name, from, to string
		status         int
	}{
		{"version", "Version: 13", "Version: 8", 426},
		{"no version", "Sec-WebSocket-Version", "X-Version", 426},
		{"no key", "Sec-WebSocket-Key", "X-Key", 400},
		{"short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400},
		{"two keys", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400},
		{"body", "Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 1", 400},
		{"subprotocol", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: a,,b", 400},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if c.name == "body" {
			text += "x"
		}
		resp, _ := g.ask(t, text)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
		}
		if c.status == 426 && resp.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s: no Sec-WebSocket-Version: 13", c.name)
		}
	}
	g.log.Wait(t, 7, "session refused", "user=alice")
	g.session(t, "alice").Close() // none of them counts as a session
	eventually(t, "no session is counted", func() bool {
		g.tunnel.sessions.mu.Lock()
		defer g.tunnel.sessions.mu.Unlock()
		return len(g.tunnel.sessions.perUser) == 0
	})
}

func TestGarbage(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice"))})
	for _, text := range []string{
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET /tunnel HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET /tunnel HTTP/1.1\r\n\r\n", // no Host
		"GET /tunnel HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET /tunnel HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"GET /tunnel HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		strings.Repeat("\x00\xff\r\n", 3000),
		"GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		c := g.dialTLS(t)
		io.WriteString(c, text) // the server may close before it has read all
		b, _ := io.ReadAll(c)
		if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 4") && !strings.HasPrefix(string(b), "HTTP/1.1 505") {
			t.Errorf("%.40q is answered with %.100q", text, b)
		}
	}
	// The same below TLS.
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff\xff", "SSH-2.0-x\r\n"} {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(watchdog))
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("%q: %q, %v", text, b, err)
		}
		c.Close()
	}
	g.session(t, "alice")
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// A connection that does not complete a request is closed after a timeout.
func TestSilentPeer(t *testing.T) {
	g := start(t, Config{HandshakeTimeout: 100 * time.Millisecond, RequestTimeout: 200 * time.Millisecond, IdleTimeout: 100 * time.Millisecond},
		Access{Users: users(t, user("alice"))})
	silent := func(what string, c net.Conn, text string) {
		t.Helper()
		io.WriteString(c, text)
		if b, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("%s: still open after %q", what, b)
		}
	}
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	silent("before TLS", c, "")
	silent("after TLS", g.dialTLS(t), "")
	silent("in the header", g.dialTLS(t), "GET / HTTP/1.1\r\nHost")
	silent("in the body", g.dialTLS(t), request("POST / HTTP/1.1", "Content-Length: 10"))
	silent("between requests", g.dialTLS(t), request("GET / HTTP/1.1"))
	eventually(t, "no connection is counted", func() bool { return g.limiter.empty() })
}

// Many silent connections from a client's address neither disturb its session nor
// keep it from opening a new one.
func TestSaturationBySilentConnections(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	echo := tcp(testnet.Echo(t))
	st := mustOpen(t, g.session(t, "alice"), echo)
	config := g.ca.ClientConfig()
	config.ServerName = "localhost"
	for i := range 1000 {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%10 == 0 { // some send something
			c.SetDeadline(time.Now().Add(watchdog))
			tls.Client(c, config).Handshake()
		}
		if i%100 == 0 {
			mustEcho(t, st)
		}
	}
	mustEcho(t, st)
	mustEcho(t, mustOpen(t, g.session(t, "alice"), echo))
	g.limiter.mu.Lock()
	defer g.limiter.mu.Unlock()
	if n := g.limiter.all.len(); n > 256 {
		t.Errorf("%d connections of one address", n)
	}
}
