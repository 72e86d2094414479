package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// webServer starts the web server behind ProxySite.
func webServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// showing starts a web server with a ProxySite.
func showing(t *testing.T, target string, o ProxyOptions) *httptest.Server {
	t.Helper()
	h, err := ProxySite(target, o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// exchange sends the text of a request and returns the answer.
func exchange(t *testing.T, s *httptest.Server, text string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial(s.Listener.Addr().Network(), s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	return askOn(t, c, text)
}

func TestProxySiteRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		seen <- r
	})
	s := showing(t, b.URL+"/base", ProxyOptions{})
	exchange(t, s, request("PATCH /a%2Fb//c/../d?x=1;y=%zz&%41=b HTTP/1.1",
		"Authorization: Basic YTpi", "Cookie: a=b", "Accept-Encoding: br", "X-Own: 1",
		"Connection: close, X-Hop", "X-Hop: secret", "Keep-Alive: 5", "Proxy-Authorization: Basic c2VjcmV0", "TE: trailers, gzip", "Upgrade: h2c",
		"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: forged", "Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1",
		"X-Forwarded-Prefix: /evil", "X-Forwarded-Port: 1", "x_forwarded_for: 192.0.2.1",
		"Content-Length: 4")+"body")
	r := <-seen
	if r.Method != "PATCH" || r.RequestURI != "/base/a%2Fb//c/../d?x=1;y=%zz&%41=b" || r.Host != "gw.test" {
		t.Errorf("the site sees %s %s at %s", r.Method, r.RequestURI, r.Host)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != "body" {
		t.Errorf("the site reads %q", body)
	}
	want := map[string]string{
		"Authorization": "Basic YTpi", "Cookie": "a=b", "Accept-Encoding": "br", "X-Own": "1", "Content-Length": "4", "Te": "trailers",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "gw.test",
	}
	for name, values := range r.Header {
		if len(values) != 1 || want[name] != values[0] {
			t.Errorf("the site sees %s: %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("the site does not see %v", want)
	}
}

func TestProxySiteTrustedProxies(t *testing.T) {
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-Ip", "X-Forwarded-Prefix", "Forwarded"} {
			fmt.Fprintf(w, "%s\n", strings.Join(r.Header.Values(name), ", "))
		}
	})
	forwarded := request("GET / HTTP/1.1", "Connection: close", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2",
		"X-Forwarded-Proto: https", "X-Forwarded-Host: www.test", "X-Real-IP: 192.0.2.1", "X-Forwarded-Prefix: /base", "Forwarded: for=192.0.2.1", "Forwarded: for=192.0.2.2")
	const passedOn = "https\nwww.test\n192.0.2.1\n/base\nfor=192.0.2.1, for=192.0.2.2\n"
	for _, c := range []struct {
		prefix string
		onUnix bool
		want   string
	}{
		{"127.0.0.0/8", false, "192.0.2.1, 192.0.2.2, 127.0.0.1\n" + passedOn},
		{"192.0.2.0/24", false, "127.0.0.1\nhttp\ngw.test\n\n\n\n"},
		{"192.0.2.0/24", true, "192.0.2.1, 192.0.2.2\n" + passedOn},
		{"", true, "\nhttp\ngw.test\n\n\n\n"},
	} {
		var o ProxyOptions
		if c.prefix != "" {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.prefix)}
		}
		h, err := ProxySite(b.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		network, address := "tcp", "127.0.0.1:0"
		if c.onUnix {
			network, address = "unix", filepath.Join(t.TempDir(), "sock")
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
		s.Start()
		t.Cleanup(s.Close)
		resp, _ := exchange(t, s, forwarded)
		if got, _ := io.ReadAll(resp.Body); string(got) != c.want {
			t.Errorf("with %q trusted, over %s, the site sees %q, want %q", c.prefix, network, got, c.want)
		}
	}
}

func TestProxySiteAnswer(t *testing.T) {
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Type"] = nil
		h.Set("Server", "site/1.0")
		h.Add("Set-Cookie", "a=b")
		h.Add("Set-Cookie", "c=d")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Proxy-Authenticate", "Basic")
		h.Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "<html>tea")
		h.Set("X-Sum", "42")
	})
	c, err := net.Dial("tcp", showing(t, b.URL, ProxyOptions{}).Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	resp, raw := askOn(t, c, request("GET / HTTP/1.1"))
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusTeapot || string(body) != "<html>tea" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if _, guessed := resp.Header["Content-Type"]; guessed || resp.Header.Get("Server") != "site/1.0" || len(resp.Header["Set-Cookie"]) != 2 ||
		resp.Header.Get("Keep-Alive") != "" || resp.Header.Get("Proxy-Authenticate") != "" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("the visitor sees\n%s", raw)
	}
	if resp, _ := askOn(t, c, request("HEAD / HTTP/1.1")); resp.StatusCode != http.StatusTeapot {
		t.Errorf("HEAD: %s", resp.Status)
	}
}

// Each part of an answer arrives as soon as the site has sent it.
func TestProxySiteStreams(t *testing.T) {
	next := make(chan string)
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for text := range next {
			io.WriteString(w, text)
			w.(http.Flusher).Flush()
		}
	})
	defer close(next)
	c, err := net.Dial("tcp", showing(t, b.URL, ProxyOptions{}).Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	io.WriteString(c, request("GET / HTTP/1.1"))
	next <- "data: 1\n\n"
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data: 1\n\n", "data: 2\n\n"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
		if want == "data: 1\n\n" {
			next <- "data: 2\n\n"
		}
	}
}

func TestProxySiteErrors(t *testing.T) {
	dead := testnet.Listen(t)
	dead.Close()
	silent := testnet.Listen(t) // connects, in its backlog, and never answers
	garbled := testnet.Listen(t)
	go func() {
		for {
			c, err := garbled.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}()
	for _, c := range []struct {
		name, target string
		status       int
		body         string
	}{
		{"nobody there", "http://" + dead.Addr().String(), 502, "502 bad gateway\n"},
		{"no socket", "unix:" + filepath.Join(t.TempDir(), "sock"), 502, "502 bad gateway\n"},
		{"no web server", "http://" + garbled.Addr().String(), 502, "502 bad gateway\n"},
		{"silence", "http://" + silent.Addr().String(), 504, "504 gateway timeout\n"},
	} {
		log := testnet.NewLog()
		s := showing(t, c.target, ProxyOptions{ResponseTimeout: 50 * time.Millisecond, Logger: log.Logger})
		for range 2 {
			resp, _ := exchange(t, s, request("GET /?secret HTTP/1.1", "Connection: close"))
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || string(body) != c.body || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s: %s %q %v", c.name, resp.Status, body, resp.Header)
			}
		}
		if lines := log.Lines("site unreachable"); len(lines) != 1 || len(log.Lines("secret")) > 0 {
			t.Errorf("%s: logged %q", c.name, log.Lines())
		}
	}
}

// A body that the site truncates does not look complete to the visitor.
func TestProxySiteTruncation(t *testing.T) {
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := http.Get(showing(t, b.URL, ProxyOptions{}).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q looks complete", body)
	}
}

func TestProxySiteUnixAndTLS(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	onUnix := &httptest.Server{Listener: ln, Config: &http.Server{Handler: hello}}
	onUnix.Start()
	t.Cleanup(onUnix.Close)
	overTLS := httptest.NewTLSServer(hello)
	t.Cleanup(overTLS.Close)
	for target, conf := range map[string]*tls.Config{
		"unix:" + path: nil,
		overTLS.URL:    overTLS.Client().Transport.(*http.Transport).TLSClientConfig,
	} {
		resp, _ := exchange(t, showing(t, target, ProxyOptions{TLS: conf}), request("GET / HTTP/1.1", "Connection: close"))
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "hello" {
			t.Errorf("%s: %s %q", target, resp.Status, body)
		}
	}
	// An unknown certificate counts as an outage.
	if resp, _ := exchange(t, showing(t, overTLS.URL, ProxyOptions{}), request("GET / HTTP/1.1", "Connection: close")); resp.StatusCode != 502 {
		t.Errorf("an unknown certificate: %s", resp.Status)
	}
}

func TestProxySiteTargets(t *testing.T) {
	for _, bad := range []string{
		"", "unix:", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http:///path", "//host", "http://:80", "http://a b", "http://h:port",
		"http://u:p@host", "http://host/?q", "http://host/?", "http://host/#f",
	} {
		if _, err := ProxySite(bad, ProxyOptions{}); err == nil {
			t.Errorf("%q is taken", bad)
		} else if bad != "" && strings.Count(err.Error(), bad) != 1 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The site's own WebSockets pass through, other upgrades do not.
func TestProxySiteUpgrade(t *testing.T) {
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if !ws.IsUpgrade(r) || r.URL.Path != "/ws" || r.Header.Get("Origin") != "https://a.test" {
			http.NotFound(w, r)
			return
		}
		c, err := ws.Accept(w, r, &ws.AcceptOptions{Subprotocol: func(offered []string) string { return strings.Join(offered, "") }})
		if err != nil {
			return
		}
		defer c.Close(1000, "")
		for {
			op, err := c.NextMessage()
			if err != nil {
				return
			}
			text, err := io.ReadAll(c)
			if err != nil || c.WriteMessage(op, append([]byte("you said "), text...)) != nil {
				return
			}
		}
	})
	g := start(t, Config{Site: mustProxy(t, b.URL)}, Access{Users: users(t, user("alice", "*:*"))})
	d := g.dialer("")
	d.Header = http.Header{"Origin": {"https://a.test"}}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	conn, err := dial.Dial(ctx, "wss://"+g.addr+"/ws", d)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, text := range []string{"hello", "again"} {
		if err := conn.WriteMessage(ws.OpText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.NextMessage(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "you said "+text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if err := conn.Close(1000, "bye"); err != nil {
		t.Errorf("the end: %v", err)
	}
	resp, _ := g.ask(t, upgrade("/ws", "Origin: https://a.test", "Sec-WebSocket-Protocol: chat"))
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != "chat" || resp.Header.Get("Sec-WebSocket-Accept") == "" {
		t.Errorf("the handshake: %s %v", resp.Status, resp.Header)
	}
	if resp, _ := g.ask(t, strings.Replace(upgrade("/ws"), "websocket", "h2c", 1)); resp.StatusCode != 404 {
		t.Errorf("another protocol: %s", resp.Status)
	}
	if resp, _ := g.ask(t, "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n"); resp.StatusCode != 405 {
		t.Errorf("CONNECT: %s", resp.Status)
	}
}

func mustProxy(t *testing.T, target string) http.Handler {
	t.Helper()
	h, err := ProxySite(target, ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// An unauthenticated client gets the same bytes at the tunnel's path as at a
// missing page of the proxied site, and the site gets the same request.
func TestUnauthenticatedClientSeesTheProxiedSite(t *testing.T) {
	seen := make(chan string, 1)
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		var text bytes.Buffer
		r.Write(&text)
		seen <- text.String()
		w.Header().Set("X-Powered-By", "site")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<p>no such page")
	})
	site, _ := url.Parse(b.URL)
	g := start(t, Config{Site: mustProxy(t, b.URL)}, Access{Users: users(t, user("alice", "*:*"))})
	for name, make := range map[string]func(path string) string{
		"plain":        func(path string) string { return request("GET " + path + " HTTP/1.1") },
		"no token":     func(path string) string { return upgrade(path) },
		"wrong token":  func(path string) string { return upgrade(path, "Authorization: Bearer x") },
		"wrong Basic":  func(path string) string { return upgrade(path, basic("alice", "x")) },
		"bad version":  func(path string) string { return strings.Replace(upgrade(path), "13", "12", 1) },
		"HEAD":         func(path string) string { return request("HEAD " + path + " HTTP/1.1") },
		"POST":         func(path string) string { return request("POST "+path+" HTTP/1.1", "Content-Length: 2") + "hi" },
		"old HTTP":     func(path string) string { return request("GET " + path + " HTTP/1.0") },
		"with a query": func(path string) string { return upgrade(path + "?token=x") },
	} {
		_, elsewhere := g.ask(t, make("/nowhere"))
		asked := <-seen
		_, here := g.ask(t, make("/tunnel"))
		if got := strings.Replace(<-seen, "/tunnel", "/nowhere", 1); got != asked {
			t.Errorf("%s: the site gets\n%s\ninstead of\n%s", name, got, asked)
		}
		if here != elsewhere {
			t.Errorf("%s: the client gets\n%s\ninstead of\n%s", name, here, elsewhere)
		}
		if strings.Contains(here, site.Host) {
			t.Errorf("%s: the client learns the site's address", name)
		}
	}
	// The same while the site is unreachable.
	b.Close()
	_, elsewhere := g.ask(t, upgrade("/nowhere"))
	_, here := g.ask(t, upgrade("/tunnel", "Authorization: Bearer x"))
	if here != elsewhere || !strings.Contains(here, " 502 ") {
		t.Errorf("with the site gone the client gets\n%s\ninstead of\n%s", here, elsewhere)
	}
}
