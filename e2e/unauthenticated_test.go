//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"adit/internal/testnet"
)

// trust returns a TLS configuration that trusts the CA of the key pair.
func (p keyPair) trust(t *testing.T) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(readFile(t, p.ca))) {
		t.Fatal("the CA's file holds no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// dialTLS connects to the server without credentials.
func (r *rig) dialTLS(t *testing.T) *tls.Conn {
	t.Helper()
	raw, err := r.host.dial(r.server.addr)
	if err != nil {
		t.Fatalf("connect to the server: %v", err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, r.pair.trust(t))
	if err := conn.Handshake(); err != nil {
		t.Fatalf("TLS with the server: %v", err)
	}
	return conn
}

// request returns an ordinary request with additional fields.
func request(line string, fields ...string) string {
	return line + "\r\nHost: gw.test\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// upgrade returns the opening handshake of a WebSocket.
func upgrade(path string, fields ...string) string {
	return request("GET "+path+" HTTP/1.1", append([]string{"Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, fields...)...)
}

var dateField = regexp.MustCompile(`(?m)^Date: .*\r\n`)

// ask sends a request and returns the status and the whole answer, without its Date.
func ask(t *testing.T, conn net.Conn, text string) (status int, answer string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("send %.60q: %v", text, err)
	}
	var raw bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &raw)), nil)
	if err != nil {
		t.Fatalf("the answer to %.60q: %v", text, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("the answer to %.60q: %v", text, err)
		}
	}
	return resp.StatusCode, dateField.ReplaceAllString(raw.String(), "")
}

func (a account) bearer(t *testing.T) string {
	t.Helper()
	return "Authorization: Bearer " + strings.TrimSpace(readFile(t, a.tokenFile))
}

// another starts a new client and transfers some bytes through it.
func (r *rig) another(t *testing.T, echo string) {
	t.Helper()
	c := r.host.client(t, "--proxy", "none", "--token-file", r.alice.tokenFile, "--ca", r.pair.ca, "-L", "127.0.0.1:0:"+echo, "wss://"+r.server.addr+tunnelPath)
	conn, err := r.host.dial(c.listens(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	expectEcho(t, conn.(*net.TCPConn))
	c.stop(t)
}

// undisturbed checks that the tunnel works for the existing client and for a new one.
func (r *rig) undisturbed(t *testing.T, echo string) {
	t.Helper()
	expectEcho(t, r.connect(t, echo))
	r.another(t, echo)
	if r.client.count(linkDown) != 0 {
		t.Error("the session ended")
	}
}

// A request without valid credentials gets the site's answer for a path that does not exist, byte
// for byte.
func TestUnauthenticatedGetSite(t *testing.T) {
	t.Parallel()
	dir := workDir(t)
	writeFile(t, dir, "index.html", "<p>ordinary</p>\n")
	for _, c := range []struct {
		name, page string
		flags      []string
	}{
		{"default site", "Welcome", nil},
		{"site directory", "ordinary", []string{"--site", dir}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			echo := testnet.Echo(t)
			r := setup{targets: []string{echo}, server: c.flags}.start(t)
			good, wrong := r.alice.bearer(t), "Authorization: Bearer adit_"+strings.Repeat("A", 43)
			if status, page := ask(t, r.dialTLS(t), request("GET / HTTP/1.1")); status != http.StatusOK || !strings.Contains(page, c.page) {
				t.Fatalf("the site's page:\n%s", page)
			}
			status, want := ask(t, r.dialTLS(t), request("GET /nowhere HTTP/1.1"))
			if status != http.StatusNotFound {
				t.Fatalf("the site answers with status %d for what it does not have", status)
			}
			for what, text := range map[string]string{
				"wrong path":               upgrade("/nowhere"),
				"wrong path, wrong token":  upgrade("/nowhere", wrong),
				"wrong path, right token":  upgrade("/nowhere", good),
				"longer path, right token": upgrade(tunnelPath+"/", good),
				"no token":                 upgrade(tunnelPath),
				"wrong token":              upgrade(tunnelPath, wrong),
				"cut token":                upgrade(tunnelPath, good[:len(good)-1]),
				"empty token":              upgrade(tunnelPath, "Authorization: Bearer "),
				"the hash as token":        upgrade(tunnelPath, "Authorization: Bearer "+r.alice.hash),
				"a name and a password":    upgrade(tunnelPath, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("alice:secret"))),
				"no upgrade":               request("GET "+tunnelPath+" HTTP/1.1", good),
				"token in the query":       upgrade(tunnelPath + "?token=" + strings.TrimPrefix(good, "Authorization: Bearer ")),
			} {
				conn := r.dialTLS(t)
				// The connection is kept.
				for range 2 {
					if _, got := ask(t, conn, text); got != want {
						t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
					}
				}
			}
			// The right token at the right path is accepted.
			if status, answer := ask(t, r.dialTLS(t), upgrade(tunnelPath, good)); status != http.StatusSwitchingProtocols {
				t.Errorf("the right token at the right path:\n%s", answer)
			}
			r.undisturbed(t, echo)
		})
	}
}

// Data that is no HTTP, or no TLS, is refused and harms nobody.
func TestUnauthenticatedGarbage(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	for _, text := range []string{
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET " + tunnelPath + " HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET " + tunnelPath + " HTTP/1.1\r\n\r\n",
		"GET " + tunnelPath + " HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		strings.Repeat("\x00\xff\r\n", 3000),
		"GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 10_000) + "\r\n",
	} {
		conn := r.dialTLS(t)
		io.WriteString(conn, text)
		conn.CloseWrite()
		// The server may reset the connection before it has read everything; then its answer is
		// lost.
		b, err := io.ReadAll(conn)
		if errIsTimeout(err) {
			t.Errorf("%.40q: the connection stays open after %.100q", text, b)
		}
		if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(b, []byte("HTTP/1.1 505")) {
			t.Errorf("%.40q has the answer %.100q", text, b)
		}
	}
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff\xff", "SSH-2.0-x\r\n", strings.Repeat("\x00", 100_000)} {
		conn, err := r.host.dial(r.server.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, text)
		conn.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(conn); errIsTimeout(err) {
			t.Errorf("without TLS, %.40q: the connection stays open after %.100q", text, b)
		}
		conn.Close()
	}
	r.undisturbed(t, echo)
}

// A client that sends nothing, or stops in the middle of a request, is disconnected.
func TestUnauthenticatedSilence(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	var running sync.WaitGroup
	for what, say := range map[string]func() net.Conn{
		"nothing": func() net.Conn {
			conn, err := r.host.dial(r.server.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		},
		"half a record of TLS": func() net.Conn {
			conn, err := r.host.dial(r.server.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.Write([]byte{0x16, 3, 1, 2})
			return conn
		},
		"TLS and nothing more": func() net.Conn { return r.dialTLS(t) },
		"half a header": func() net.Conn {
			conn := r.dialTLS(t)
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gw")
			return conn
		},
		"half an upgrade": func() net.Conn {
			conn := r.dialTLS(t)
			io.WriteString(conn, strings.TrimSuffix(upgrade(tunnelPath, r.alice.bearer(t)), "\r\n"))
			return conn
		},
	} {
		conn := say()
		conn.SetDeadline(time.Now().Add(patience))
		running.Go(func() {
			if b, err := io.ReadAll(conn); errIsTimeout(err) {
				t.Errorf("a client that sends %s is still connected after %v, and got %q", what, patience, b)
			}
		})
	}
	running.Wait()
	r.undisturbed(t, echo)
}

// A thousand silent connections, from one address or from many, neither disturb the tunnel nor keep
// new clients out, and are closed in time.
func TestUnauthenticatedFlood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		addresses int
		most      int // how many of them the server may hold
	}{
		{"from one address", 1, 256},
		{"from many addresses", 10, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			echo := testnet.Echo(t)
			r := setup{targets: []string{echo}}.start(t)
			before := r.server.usage(t)
			conn := r.connect(t, echo)
			flood(t, r, 1000, c.addresses)
			if now := r.server.usage(t); now.descriptors > before.descriptors+c.most+16 {
				t.Errorf("the server holds %v, before %v: more than %d unauthenticated clients", now, before, c.most)
			}
			expectEcho(t, conn)
			r.undisturbed(t, echo)
			r.server.settles(t, before)
		})
	}
}

// flood opens connections to the server, from several addresses in turn, and keeps them until the
// end of the test. Every twentieth completes a TLS handshake.
func flood(t *testing.T, r *rig, connections, addresses int) {
	t.Helper()
	trust := r.pair.trust(t)
	for i := range connections {
		from := &net.TCPAddr{IP: net.IPv4(127, 77, 0, byte(i%addresses))}
		if addresses == 1 {
			// The clients have this address, too.
			from.IP = net.IPv4(127, 0, 0, 1)
		}
		d := net.Dialer{LocalAddr: from, Timeout: patience}
		conn, err := d.Dial("tcp", r.server.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		if i%20 == 0 {
			conn.SetDeadline(time.Now().Add(patience))
			if err := tls.Client(conn, trust).Handshake(); err != nil {
				t.Fatalf("TLS of connection %d: %v", i, err)
			}
		}
	}
}

// The site does not serve the server's own files.
func TestSiteServesNoServerFiles(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	dir := workDir(t)
	writeFile(t, dir, "secret", "hunter2")
	site := filepath.Join(dir, "site")
	if err := os.Mkdir(site, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, site, ".env", "hunter2")
	if err := os.Symlink("../secret", filepath.Join(site, "link")); err != nil {
		t.Fatal(err)
	}
	r := setup{targets: []string{echo}, server: []string{"--site", site}}.start(t)
	for _, path := range []string{"/../secret", "/%2e%2e/secret", "/..%2fsecret", "/.env", "/link", "/", "//../secret", fmt.Sprintf("/%s", strings.Repeat("../", 20)+strings.TrimPrefix(dir, "/")+"/secret")} {
		if status, answer := ask(t, r.dialTLS(t), request("GET "+path+" HTTP/1.1")); status == http.StatusOK || strings.Contains(answer, "hunter2") {
			t.Errorf("%s has the answer\n%s", path, answer)
		}
	}
}
