//go:build linux

package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// gatewayFronts are the reverse proxies that docs/gateway.md configures.
var gatewayFronts = []struct {
	name  string
	front front
	h2    bool // accepts WebSockets over HTTP/2, too
}{
	{"nginx", nginxFront, false},
	{"haproxy", haproxyFront, false},
	{"haproxy-h2", haproxyH2Front, true},
	{"apache", apacheFront, false},
	{"lighttpd", lighttpdFront, true},
	{"caddy", caddyFront, false},
}

// Each reverse proxy passes routes and the tunnel at once, on one port.
func TestRoutesBehindReverseProxies(t *testing.T) {
	for _, f := range gatewayFronts {
		t.Run(f.name, func(t *testing.T) {
			g := newFronted(t, f.front)
			t.Run("http/1.1", func(t *testing.T) { g.use(t, "http/1.1") })
			if f.h2 {
				t.Run("h2", func(t *testing.T) { g.use(t, "h2") })
			}
			t.Run("tunnel", func(t *testing.T) { g.user.json(t) })
		})
	}
}

// fronted is a gateway and a client of its tunnel on one machine, with a reverse proxy between
// them.
type fronted struct {
	host  *host
	roots *x509.CertPool
	user  *tunnelUser
}

// tellBackend answers with the header that it gets about its client.
const tellBackend = "127.0.0.1:9002"

func newFronted(t *testing.T, before front) *fronted {
	t.Helper()
	h := isolated(t, "gateway")
	h.ip(t, "addr add "+gatewayAddr+"/32 dev lo")
	h.addName(t, gatewayName, gatewayAddr)
	b := &backends{host: h, dir: workDir(t)}
	b.startJSON(t)
	b.startBulk(t)
	serve(t, h.listen(t, tellBackend), func(conn net.Conn) {
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			io.WriteString(conn, line)
		}
	})
	pair, alice := newKeyPair(t, gatewayName), newAccount(t, h, "alice")
	s := h.server(t, "--config", writeFile(t, workDir(t), "server.toml", fmt.Sprintf(`listen = ["127.0.0.1:0"]
trusted-proxies = ["127.0.0.1"]
tls = {off = true}
[tunnel]
path = %q
%s`, tunnelPath, alice.users(jsonBackend, bulkBackend)+
		route("/json", jsonBackend, `frame-type = "text"`)+
		route("/bulk", bulkBackend)+
		route("/tell", tellBackend, `proxy-protocol = "v1"`))))
	before(t, h, pair, s.addr)
	g := &fronted{host: h, roots: x509.NewCertPool(), user: &tunnelUser{at: h, backends: b}}
	g.roots.AppendCertsFromPEM([]byte(readFile(t, pair.ca)))
	h.client(t, "--proxy", "none", "--token-file", alice.tokenFile, "--ca", pair.ca,
		"-L", jsonLocal+":"+jsonBackend, "-L", bulkLocal+":"+bulkBackend, gatewayURL)
	return g
}

// use uses routes and the tunnel at the same time.
func (g *fronted) use(t *testing.T, alpn string) {
	const size = 8 << 20
	both := make(chan error, 1)
	go func() { both <- g.echo(alpn, size) }()
	g.user.bulk(t, size)
	if err := <-both; err != nil {
		t.Errorf("8 MiB through a route, beside the tunnel: %v", err)
	}

	p, err := g.dial(alpn, "/json", "https://"+gatewayName, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for n := range 20 {
		request, _ := json.Marshal(jsonRequest{ID: n, Text: strings.Repeat("ž", n*n)})
		seen := len(p.data)
		if err := p.write(f(fin|opText, string(request)+"\n"), 0); err != nil {
			t.Fatal(err)
		}
		if err := p.until(func() bool { return strings.HasSuffix(string(p.data[seen:]), "\n") }); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		var reply jsonReply
		if err := json.Unmarshal(p.data[seen:], &reply); err != nil || reply.ID != n || reply.Length != 2*n*n {
			t.Errorf("line %d has the answer %.100q, %v", n, p.data[seen:], err)
		}
	}
	if err := p.bye(); err != nil {
		t.Error(err)
	}

	// The backend gets the client's address, not the forged one.
	p, err = g.dial(alpn, "/tell", "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.untilAnswered(); err != nil || p.code != 1000 || !strings.HasPrefix(string(p.data), "PROXY TCP4 "+gatewayAddr+" ") {
		t.Errorf("the backend gets %q, then %v, %d %s", p.data, err, p.code, p.reason)
	}

	var refused *refusedError
	if p, err := g.dial(alpn, "/json", "https://evil.test", true); err == nil {
		p.Close()
		t.Error("a page of another origin is accepted")
	} else if !errors.As(err, &refused) || refused.status != http.StatusForbidden {
		t.Errorf("a page of another origin: %v, want 403", err)
	}
	if p, err := g.dial(alpn, "/jsonx", "", true); err == nil {
		p.Close()
		t.Error("/jsonx is accepted")
	} else if !errors.As(err, &refused) || refused.status != http.StatusNotFound {
		t.Errorf("/jsonx: %v, want 404", err)
	}
}

// echo sends size bytes through the bulk route while it reads them back.
func (g *fronted) echo(alpn string, size int64) error {
	p, err := g.dial(alpn, "/bulk", "", false)
	if err != nil {
		return err
	}
	defer p.Close()
	back, got := sha256.New(), int64(0)
	p.onData = func(b []byte) error {
		got += int64(len(b))
		back.Write(b)
		return nil
	}
	sent := make(chan error, 1)
	go func() {
		err := p.write(f(fin|opBinary, "echo\n"), 0)
		in, buf := newNoise(9, size), make([]byte, 60_000)
		for err == nil {
			n, e := io.ReadFull(in, buf)
			if n > 0 {
				err = p.write(f(fin|opBinary, string(buf[:n])), 0)
			}
			if e != nil {
				break
			}
		}
		sent <- err
	}()
	err = p.until(func() bool { return got >= size })
	if err != nil {
		// This unblocks the sender.
		p.Close()
	}
	if err := errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d bytes: %w", got, err)
	}
	if hexSum(back) != noiseDigest(9, size) {
		return errors.New("other bytes came back")
	}
	return p.bye()
}

// dial opens a WebSocket through the reverse proxy.
func (g *fronted) dial(alpn, path, origin string, text bool) (*peer, error) {
	conn, err := g.host.dial(gatewayAddr + ":443")
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(conn, &tls.Config{RootCAs: g.roots, ServerName: gatewayName, NextProtos: []string{alpn}})
	p, err := openPeer(secure, conn.(*net.TCPConn), alpn == "h2", path, origin, text)
	if err != nil {
		conn.Close()
	}
	return p, err
}

// forged is a client's false claim about its address, which the reverse proxies must remove.
const forged = "for=192.0.2.9"

// openPeer opens a WebSocket to gatewayName on an existing connection, over HTTP/1.1 or HTTP/2.
func openPeer(secure *tls.Conn, raw *net.TCPConn, h2 bool, path, origin string, text bool) (*peer, error) {
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	if !h2 {
		wire := &tcpWire{secure, bufio.NewReader(secure), raw}
		request := "GET " + path + " HTTP/1.1\r\nHost: " + gatewayName + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + exampleKey + "\r\nForwarded: " + forged + "\r\nX-Forwarded-For: 192.0.2.8\r\n"
		if origin != "" {
			request += "Origin: " + origin + "\r\n"
		}
		if _, err := io.WriteString(wire, request+"\r\n"); err != nil {
			return nil, err
		}
		return newPeer(wire, text), readSwitch(wire.in)
	}
	c, err := newH2Conn(secure)
	if err != nil {
		return nil, err
	}
	more := [][2]string{{"forwarded", forged}, {"x-forwarded-for", "192.0.2.8"}}
	if origin != "" {
		more = append(more, [2]string{"origin", origin})
	}
	s, err := c.open(connect(gatewayName, path, more...), "")
	var status int
	if err == nil {
		status, err = s.answer()
	}
	if err == nil && status != http.StatusOK {
		err = &refusedError{status}
	}
	if err == nil && !c.extended {
		err = errors.New("no SETTINGS_ENABLE_CONNECT_PROTOCOL")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return newPeer(s, text), nil
}

// haproxyH2Front speaks HTTP/2 on both sides, except for the tunnel, which uses HTTP/1.1.
func haproxyH2Front(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	need(t, "haproxy")
	dir := workDir(t)
	both := writeFile(t, dir, "pair.pem", readFile(t, pair.cert)+readFile(t, pair.key))
	conf := writeFile(t, dir, "haproxy.cfg", haproxyDefaults+fmt.Sprintf(`frontend public
	bind %[1]s:443 ssl crt %[2]s alpn h2,http/1.1
	http-request del-header Forwarded
	use_backend tunnel if { path %[4]s }
	default_backend adit
backend adit
	server adit %[3]s proto h2
backend tunnel
	server adit %[3]s
`, gatewayAddr, both, backend, tunnelPath))
	gateway.start(t, "haproxy", spec{argv: []string{"haproxy", "-db", "-f", conf}}).
		awaitPort(t, gateway, gatewayAddr+":443")
}

func lighttpdFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	need(t, "lighttpd")
	dir := workDir(t)
	addr, port, _ := net.SplitHostPort(backend)
	conf := writeFile(t, dir, "lighttpd.conf", fmt.Sprintf(`server.modules = ("mod_openssl", "mod_setenv", "mod_proxy")
server.document-root = %[1]q
server.bind = %[2]q
server.port = 443
ssl.engine = "enable"
ssl.pemfile = %[3]q
ssl.privkey = %[4]q
proxy.server = ("" => (("host" => %[5]q, "port" => %[6]s)))
proxy.header = ("upgrade" => "enable")
setenv.set-request-header = ("Forwarded" => "")
`, dir, gatewayAddr, pair.cert, pair.key, addr, port))
	gateway.start(t, "lighttpd", spec{argv: []string{"lighttpd", "-D", "-f", conf}}).
		awaitPort(t, gateway, gatewayAddr+":443")
}

func caddyFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	need(t, "caddy")
	dir := workDir(t)
	conf := writeFile(t, dir, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	storage file_system %[1]s
}
https://%[2]s {
	bind %[3]s
	tls %[4]s %[5]s
	reverse_proxy %[6]s {
		header_up -Forwarded
	}
}
`, dir, gatewayName, gatewayAddr, pair.cert, pair.key, backend))
	gateway.start(t, "caddy", spec{argv: []string{"caddy", "run", "--config", conf, "--adapter", "caddyfile"}, env: []string{"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}}).
		awaitPort(t, gateway, gatewayAddr+":443")
}
