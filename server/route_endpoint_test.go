package server

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"adit/internal/testnet"
	"adit/tunnel/ws"
)

func TestFraming(t *testing.T) {
	echo := testnet.Echo(t)
	g := startRoutes(t, Route{Path: "/bin", Backends: []string{echo}}, Route{Path: "/text", Backends: []string{echo}, FrameType: "text"})
	enc := base64.StdEncoding.EncodeToString
	tests := []struct {
		path, offered, chosen string
		send                  byte
		payload               string
		answer                byte
		want                  string
	}{
		{"/bin", "", "", binMsg, "a\x00\xff", binMsg, "a\x00\xff"},
		{"/bin", "", "", text, "text", binMsg, "text"},
		{"/bin", "chat, superchat", "", binMsg, "x", binMsg, "x"},
		{"/bin", "adit", "", binMsg, "x", binMsg, "x"},
		{"/bin", "chat, binary", "binary", binMsg, "x", binMsg, "x"},
		{"/bin", "base64", "base64", text, enc([]byte("a\x00\xff")), text, enc([]byte("a\x00\xff"))},
		{"/bin", "base64", "base64", binMsg, enc([]byte("ab")), text, enc([]byte("ab"))},
		{"/bin", "base64, binary", "binary", text, "x", binMsg, "x"},
		{"/bin", "Binary", "", binMsg, "x", binMsg, "x"},
		{"/text", "", "", binMsg, "κόσμε", text, "κόσμε"},
		{"/text", "binary", "binary", text, "x", binMsg, "x"},
		{"/text", "base64", "base64", text, "eA==", text, "eA=="},
	}
	for _, test := range tests {
		t.Run(test.path+" "+test.offered, func(t *testing.T) {
			var fields []string
			if test.offered != "" {
				fields = []string{"Sec-WebSocket-Protocol: " + test.offered}
			}
			ws := g.enter(t, test.path, fields...)
			if got := ws.resp.Header.Values("Sec-WebSocket-Protocol"); strings.Join(got, "|") != test.chosen {
				t.Errorf("subprotocol %q, want %q", got, test.chosen)
			}
			if got := ws.resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
				t.Errorf("extension %q", got)
			}
			ws.send(test.send, test.payload)
			ws.want(test.answer, test.want)
			ws.send(closeF, closePayload(1000, ""))
			ws.wantClose(1000, false)
		})
	}
	g.quiet(t)
}

// Code points are not split where the backend's writes end.
func TestTextKeepsCodePointsWhole(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}, FrameType: "text"})
	ws := g.enter(t, "/r")
	c := b.next(t)
	const all = "a€😀é"
	for i := range len(all) {
		c.Write([]byte{all[i]})
		time.Sleep(2 * time.Millisecond) // so that each is read by itself
	}
	c.Close()
	for got := ""; got != all; {
		f, p, err := ws.next()
		if err != nil || f != text || strings.ToValidUTF8(p, "") != p || p == "" {
			t.Fatalf("after %q: %#x %q, %v", got, f, p, err)
		}
		got += p
	}
	ws.wantClose(1000, true)
}

func TestBase64Messages(t *testing.T) {
	tests := []struct {
		frames []string // first byte, payload
		want   string   // to the backend
		code   int      // of the close; 0: none
	}{
		{[]string{"\x81YQ==", "\x81YmM="}, "abc", 0},     // each with padding
		{[]string{"\x01Y", "\x00W", "\x80Jj"}, "abc", 0}, // fragments
		{[]string{"\x01YQ", "\x80==", "\x81"}, "a", 0},   // an empty message
		{[]string{"\x81YQ==YmM="}, "", 1007},             // padding in the middle
		{[]string{"\x01YQ==", "\x80YmM="}, "a", 1007},    // the same in fragments
		{[]string{"\x81YQ"}, "", 1007},                   // no padding
		{[]string{"\x81YQ==", "\x81!!!!"}, "a", 1007},    // not base64
		{[]string{"\x81YWJj\nYWJj"}, "", 1007},           // line breaks
		{[]string{"\x81YW\r\n"}, "", 1007},               // as padding
		{[]string{"\x82" + strings.Repeat("eHh4", 50000)}, strings.Repeat("x", 150000), 0},
	}
	for i, test := range tests {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := accepting(t)
			g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
			ws := g.enter(t, "/r", "Sec-WebSocket-Protocol: base64")
			c := b.next(t)
			for _, f := range test.frames {
				ws.send(f[0], f[1:])
			}
			if test.code != 0 {
				ws.wantClose(test.code, true)
				wantReset(t, c)
				return
			}
			ws.send(closeF, "")
			wantRead(t, c, test.want)
			wantEOF(t, c)
		})
	}
}

// Read, which holds a large buffer, does not block while a client is silent.
func TestReadsDoNotWait(t *testing.T) {
	for name, in := range map[string]func(*ws.Conn) input{
		"binary": func(c *ws.Conn) input { return streamInput{c} },
		"base64": func(c *ws.Conn) input { return &base64Input{conn: c} },
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *ws.Conn, 1)
			g := start(t, Config{Site: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := ws.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
				}
				conns <- c
			})}, Access{Users: users(t, user("alice"))})
			ws := g.enter(t, "/")
			conn := <-conns
			var reading atomic.Bool
			got := make(chan string, 1)
			go func() {
				in, all, p := in(conn), "", make([]byte, 7000)
				for {
					in.wait()
					reading.Store(true)
					n, err := in.read(p)
					reading.Store(false)
					all += string(p[:n])
					if err != nil {
						got <- all
						return
					}
				}
			}()
			for i, part := range []string{"\x01", "\x00Y", "\x00W", "\x00", "\x00Jj", "\x80", "\x01", "\x80YQ=="} {
				ws.send(part[0], part[1:])
				ws.send(pingF, "")
				if f, _, err := ws.next(); f != pongF {
					t.Fatalf("%#x for a ping, %v", f, err)
				}
				eventually(t, fmt.Sprintf("after frame %d no read waits", i), func() bool { return !reading.Load() })
			}
			ws.send(closeF, "")
			if all := <-got; all != map[string]string{"binary": "YWJjYQ==", "base64": "abca"}[name] {
				t.Errorf("%q", all)
			}
			conn.Close(1000, "")
			ws.wantClose(0, false)
		})
	}
}

// Bulk data in both directions at once arrives unchanged.
func TestBulkBothWays(t *testing.T) {
	echo := testnet.Echo(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{echo}})
	for _, sub := range []string{"binary", "base64"} {
		t.Run(sub, func(t *testing.T) {
			ws := g.enter(t, "/r", "Sec-WebSocket-Protocol: "+sub)
			data := make([]byte, 2<<20)
			for i := range data {
				data[i] = byte(i * i >> 7)
			}
			encode := func(p []byte) string {
				if sub == "base64" {
					return base64.StdEncoding.EncodeToString(p)
				}
				return string(p)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				rest := data
				for _, size := range []int{1, 125, 126, 4095, 4096, 65535, 65536, 300000, len(data)} {
					n := min(size, len(rest))
					ws.Write(maskedFrame(binMsg, encode(rest[:n])))
					rest = rest[n:]
				}
			}()
			var got []byte
			for len(got) < len(data) {
				_, p, err := ws.next()
				if err != nil {
					t.Fatal(err)
				}
				b := []byte(p)
				if sub == "base64" {
					if b, err = base64.StdEncoding.DecodeString(p); err != nil {
						t.Fatal(err)
					}
				}
				got = append(got, b...)
			}
			<-done
			if string(got) != string(data) {
				t.Error("what came back is not what was sent")
			}
			ws.send(closeF, "")
			ws.wantClose(0, false)
		})
	}
	g.quiet(t)
}

func TestBackendsThatAreNotThere(t *testing.T) {
	refused := testnet.RefusedAddr(t)
	good := testnet.Echo(t)
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	tests := []struct {
		name     string
		backends []string
		status   int
	}{
		{"refused", []string{refused}, 502},
		{"both refused", []string{refused, "unix:/nowhere/at/all"}, 502},
		{"no such name", []string{"does-not-exist.invalid:80"}, 502},
		{"one is good", []string{refused, good}, 101},
		{"named", []string{"echo"}, 101},
		{"unix", []string{"unix:" + socket}, 101},
	}
	if runtime.GOOS == "linux" {
		slow := blackhole(t)
		tests = append(tests, []struct {
			name     string
			backends []string
			status   int
		}{{"slow", []string{slow}, 504}, {"slow and refused", []string{slow, refused}, 504}, {"slow, then good", []string{slow, good}, 101}}...)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, Config{Resolver: testnet.NewResolver(t, map[string][]netip.Addr{})}, Access{
				Targets: map[string]string{"echo": good},
				Routes:  []Route{{Path: "/r", Backends: test.backends, ConnectTimeout: 500 * time.Millisecond}},
			})
			for range 3 {
				ws := g.knock(t, "/r")
				if ws.resp.StatusCode != test.status {
					t.Errorf("%s, want %d", ws.resp.Status, test.status)
				}
				ws.Conn.Close()
			}
			g.quiet(t)
			for _, b := range g.access.Load().routes[0].pool.backends {
				eventually(t, "no connection counts", func() bool {
					p := g.access.Load().routes[0].pool
					p.mu.Lock()
					defer p.mu.Unlock()
					return b.conns == 0
				})
			}
		})
	}
}

// A backend that recovers is used again, and the backend with the fewest
// connections first.
func TestLeastConnections(t *testing.T) {
	p, faults := newPool([]string{"a:1", "b:1", "c:1"}, nil, nil)
	if faults != nil {
		t.Fatal(faults)
	}
	pick := func() int { return p.pick(make([]bool, 3)) }
	var order []int
	for range 6 {
		order = append(order, pick())
	}
	if !slices.Equal(order, []int{0, 1, 2, 0, 1, 2}) {
		t.Errorf("order %v", order)
	}
	p.release(p.backends[1], nil)
	if i := pick(); i != 1 {
		t.Errorf("picked %d, not the least busy", i)
	}
	p.release(p.backends[2], errNoBackend)
	p.release(p.backends[2], nil)
	if i := pick(); i == 2 {
		t.Error("picked the one that has just failed")
	}
	if i := p.pick([]bool{true, true, false}); i != 2 {
		t.Errorf("picked %d, not the only one left", i)
	}
	p.backends[2].failedUntil = time.Now().Add(-time.Millisecond)
	p.release(p.backends[2], nil)
	if i := pick(); i != 2 {
		t.Errorf("picked %d, not the one that may be tried again", i)
	}
}

func TestRouteLimits(t *testing.T) {
	echo := testnet.Echo(t)
	for _, r := range []Route{{MaxConns: 2}, {MaxConnsPerAddress: 2}} {
		r.Path, r.Backends = "/r", []string{echo}
		g := startRoutes(t, r)
		first := g.enter(t, "/r")
		g.enter(t, "/r")
		if ws := g.knock(t, "/r"); ws.resp.StatusCode != 503 || ws.resp.Header.Get("Retry-After") == "" {
			t.Errorf("one too many: %s", ws.resp.Status)
		}
		first.send(closeF, "")
		first.wantClose(0, false)
		eventually(t, "there is a place again", func() bool {
			ws := g.knock(t, "/r")
			ws.Conn.Close()
			return ws.resp.StatusCode == 101
		})
	}
}

func TestBackendIsToldOfTheClient(t *testing.T) {
	b := accepting(t)
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, version := range []string{"v1", "v2"} {
		for _, test := range []struct {
			trusted []netip.Prefix
			want    string
		}{{trusted, "198.51.100.7:0"}, {nil, ""}} {
			g := start(t, Config{}, Access{TrustedProxies: test.trusted, Routes: []Route{{Path: "/r", Backends: []string{b.addr}, ProxyProtocol: version}}})
			ws := g.enter(t, "/r", "X-Forwarded-For: 6.6.6.6, 198.51.100.7")
			ws.send(binMsg, "data")
			c := b.next(t)
			br := bufio.NewReader(c)
			h, err := proxyproto.Read(br)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if want == "" {
				want = ws.LocalAddr().String()
			}
			if h.SourceAddr.String() != want || h.DestinationAddr.String() != ws.RemoteAddr().String() {
				t.Errorf("%s: %v to %v, want %s to %s", version, h.SourceAddr, h.DestinationAddr, want, ws.RemoteAddr())
			}
			p := make([]byte, 4)
			if _, err := io.ReadFull(br, p); err != nil || string(p) != "data" {
				t.Errorf("%s: then %q, %v", version, p, err)
			}
			if lines := g.log.Lines("6.6.6.6"); len(lines) > 0 {
				t.Errorf("invented address in the log: %s", lines)
			}
			ws.send(closeF, "")
			ws.wantClose(0, false)
			c.Close()
		}
	}
}

// A malformed handshake does not reach the backend, and a request that is no
// handshake goes to the site.
func TestNoHandshakeNoBackend(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
	for text, status := range map[string]int{
		strings.Replace(upgrade("/r"), "Version: 13", "Version: 8", 1): 426,
		strings.Replace(upgrade("/r"), "dGhlIH", "", 1):                400,
		upgrade("/r", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="):   400,
		upgrade("/r", "Origin: https://gw.test", "Origin: https://x"):  400,
		upgrade("/r", "Origin: https://evil.example"):                  403,
		upgrade("/r", "Sec-WebSocket-Protocol: a b"):                   400,
		upgrade("/rx"):                                404,
		request("GET /r HTTP/1.1"):                    404,
		request("GET /r/.ticket HTTP/1.1"):            404,
		request("POST /r HTTP/1.1", upgradeFields...): 404,
	} {
		resp, _ := g.ask(t, text)
		if resp.StatusCode != status {
			t.Errorf("%q: %s, want %d", text, resp.Status, status)
		}
	}
	select {
	case <-b.conns:
		t.Error("the backend was connected to")
	default:
	}
}

// Idle connections need little memory, and all of it is released.
func TestManyIdleConnections(t *testing.T) {
	n := 5000
	if testing.Short() {
		n = 200
	}
	const perConn = 4 // descriptors: both ends of both sockets
	if limit := maxDescriptors(t); n*perConn+500 > limit {
		n = (limit - 500) / perConn
	}
	ln := testnet.Listen(t)
	var backends sync.WaitGroup
	defer backends.Wait()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			backends.Add(1)
			go func() {
				defer backends.Done()
				defer c.Close()
				b := make([]byte, 16) // io.Copy would use a pipe for each
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
	g := startTLS(t, Config{}, Access{Routes: []Route{{Path: "/r", Backends: []string{ln.Addr().String()}}}}, testnet.NewCA(t, "x"), nil)
	before := heap()
	conns := make([]*webSocket, n)
	for i := range conns {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = knockOn(t, c, "/r")
		if conns[i].resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("number %d: %s; %s", i, conns[i].resp.Status, g.log.Lines("refused"))
		}
		conns[i].resp, conns[i].br = nil, bufio.NewReaderSize(c, 16)
	}
	t.Logf("%d connections, %d bytes each on both sides and in the backend", n, (heap()-before)/uint64(n))
	for _, ws := range conns {
		ws.send(binMsg, "x")
	}
	for _, ws := range conns {
		ws.want(binMsg, "x")
	}
	for _, ws := range conns {
		ws.Conn.Close()
	}
	g.quiet(t)
	ln.Close()
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// A client that goes away ends the connection attempt to the backend.
func TestClientLeavesWhileDialing(t *testing.T) {
	g := startRoutes(t, Route{Path: "/r", Backends: []string{blackhole(t)}, ConnectTimeout: watchdog})
	c := g.dialTLS(t)
	io.WriteString(c, upgrade("/r"))
	eventually(t, "the backend is dialed", func() bool {
		p := g.access.Load().routes[0].pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.backends[0].conns == 1
	})
	c.Close()
	g.quiet(t)
}

// So does the end of the drain.
func TestShutdownWhileDialing(t *testing.T) {
	g := startRoutes(t, Route{Path: "/r", Backends: []string{blackhole(t)}, ConnectTimeout: 10 * watchdog})
	c := g.dialTLS(t)
	io.WriteString(c, upgrade("/r"))
	eventually(t, "the backend is dialed", func() bool {
		p := g.access.Load().routes[0].pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.backends[0].conns == 1
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Shutdown(ctx)
}

// A client that offers subprotocols, as MQTT in a browser does, is answered the
// first of the route's that it offers, also beside a token.
func TestRouteSubprotocols(t *testing.T) {
	echo := testnet.Echo(t)
	g := start(t, Config{}, Access{Users: users(t, user("alice")), Routes: []Route{
		{Path: "/mqtt", Backends: []string{echo}, Subprotocols: []string{"mqtt", "mqttv3.1"}},
		{Path: "/text", Backends: []string{echo}, Subprotocols: []string{"v12.stomp", "base64"}, FrameType: "text"},
		{Path: "/users", Backends: []string{echo}, Subprotocols: []string{"mqtt"}, Users: []string{"alice"}},
	}})
	for _, test := range []struct {
		path, offered, chosen string
		answer                byte
	}{
		{"/mqtt", "mqttv3.1, mqtt", "mqtt", binMsg},
		{"/mqtt", "mqttv3.1", "mqttv3.1", binMsg},
		{"/mqtt", "binary, mqttv3.1", "mqttv3.1", binMsg},
		{"/mqtt", "chat, binary", "binary", binMsg},
		{"/mqtt", "MQTT", "", binMsg},
		{"/mqtt", "", "", binMsg},
		{"/text", "v12.stomp", "v12.stomp", text},
		{"/users", "adit.token.alice-token, mqtt", "mqtt", binMsg},
		{"/users", "adit, adit.token.alice-token", "adit", binMsg},
	} {
		var fields []string
		if test.offered != "" {
			fields = []string{"Sec-WebSocket-Protocol: " + test.offered}
		}
		ws := g.enter(t, test.path, fields...)
		if got := strings.Join(ws.resp.Header.Values("Sec-WebSocket-Protocol"), "|"); got != test.chosen {
			t.Errorf("%s: %q of %q, want %q", test.path, got, test.offered, test.chosen)
		}
		ws.send(binMsg, "x")
		ws.want(test.answer, "x")
		ws.send(closeF, closePayload(1000, ""))
		ws.wantClose(1000, false)
	}
	g.quiet(t)
}

// Until subprotocols are configured the log says what a client offered that left at
// once, without its token.
func TestUnansweredSubprotocolIsLogged(t *testing.T) {
	b := accepting(t)
	g := start(t, Config{}, Access{Users: users(t, user("alice")), Routes: []Route{{Path: "/r", Backends: []string{b.addr}, Users: []string{"alice"}}}})
	logged := func() []string { return g.log.Lines("route subprotocol unanswered") }
	leave := func(offered string) {
		ws := g.enter(t, "/r", "Authorization: Bearer alice-token", "Sec-WebSocket-Protocol: "+offered)
		b.next(t)
		before := len(g.log.Lines("route closed"))
		ws.Close()
		eventually(t, "the end is logged", func() bool { return len(g.log.Lines("route closed")) > before })
	}
	leave("binary")
	if len(logged()) > 0 {
		t.Errorf("an answered one: %q", logged())
	}
	leave("mqtt, chat")
	if l := logged(); len(l) != 1 || !strings.Contains(l[0], `offered="mqtt, chat"`) || !strings.Contains(l[0], `subprotocols = [`) || !strings.Contains(l[0], "route=/r") {
		t.Errorf("%q", l)
	}
	ws := g.enter(t, "/r", "Sec-WebSocket-Protocol: adit.token.alice-token")
	b.next(t)
	ws.Close()
	eventually(t, "the offer of a token only is logged", func() bool { return len(logged()) == 2 })
	if l := logged()[1]; strings.Contains(l, "alice-token") || !strings.Contains(l, "must offer adit") {
		t.Error(l)
	}
}
