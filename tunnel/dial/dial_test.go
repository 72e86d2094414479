package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel"
	"adit/tunnel/ws"
)

// dialCtx returns a context with a generous timeout.
func dialCtx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// wsServer serves WebSockets that echo, over TLS if cfg is not nil, and sends the upgrade requests to requests. It
// returns HOST:PORT.
func wsServer(t *testing.T, cfg *tls.Config, requests chan<- *http.Request) string {
	t.Helper()
	ln := testnet.Listen(t)
	addr := ln.Addr().String()
	if cfg != nil {
		ln = tls.NewListener(ln, cfg)
	}
	return serveHTTP(t, ln, addr, func(w http.ResponseWriter, r *http.Request) {
		if requests != nil {
			requests <- r
		}
		c, err := ws.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			op, err := c.NextMessage()
			if err != nil {
				return
			}
			b, err := io.ReadAll(c)
			if err != nil || c.WriteMessage(op, b) != nil {
				return
			}
		}
	})
}

func serveHTTP(t *testing.T, ln net.Listener, addr string, h http.HandlerFunc) string {
	t.Helper()
	var wg sync.WaitGroup
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		h(w, r)
	})}
	wg.Go(func() { srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return addr
}

func checkEcho(t *testing.T, c *ws.Conn) {
	t.Helper()
	c.NetConn().SetDeadline(time.Now().Add(time.Minute))
	for _, text := range []string{"hello", strings.Repeat("x", 100_000)} {
		if err := c.WriteMessage(ws.OpBinary, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if op, err := c.NextMessage(); err != nil || op != ws.OpBinary {
			t.Fatalf("next message: %v, %v", op, err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != text {
			t.Fatalf("got %d bytes, %v", len(b), err)
		}
	}
}

func always(u *url.URL) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

func TestDialWays(t *testing.T) {
	ca := testnet.NewCA(t, "Test CA")
	const name = "gw.example.com"
	plain := wsServer(t, nil, nil)
	secure := wsServer(t, ca.ServerConfig(t, name), nil)
	_, plainPort, _ := net.SplitHostPort(plain)
	_, securePort, _ := net.SplitHostPort(secure)
	ws, wss := "ws://"+name+":"+plainPort+"/p?q=1", "wss://"+name+":"+securePort
	hosts := map[string]string{name + ":" + plainPort: plain, name + ":" + securePort: secure}
	resolver := testnet.NewResolver(t, map[string][]netip.Addr{
		// Nothing listens at the first address: Dial tries the next one.
		name: {netip.MustParseAddr("127.0.0.77"), netip.MustParseAddr("127.0.0.1")},
	})
	proxyTLS := ca.ServerConfig(t)

	open := testnet.NewProxy(t, testnet.ProxyOptions{Hosts: hosts})
	basic := testnet.NewProxy(t, testnet.ProxyOptions{Hosts: hosts, User: "alice", Password: "p@ss:w/rd#"})
	odd := testnet.NewProxy(t, testnet.ProxyOptions{Hosts: hosts, Chop: 1, Interim: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"})
	https := testnet.NewProxy(t, testnet.ProxyOptions{Hosts: hosts, TLS: proxyTLS, User: "u", Password: "p"})
	socks := testnet.NewSOCKS(t, testnet.SOCKSOptions{Hosts: hosts})
	socksPw := testnet.NewSOCKS(t, testnet.SOCKSOptions{Hosts: hosts, User: "u", Password: "p"})
	socksH := socks.URL()
	socksH.Scheme = "socks5h"

	for _, tt := range []struct {
		name  string
		proxy *url.URL
	}{
		{"direct", nil},
		{"CONNECT", open.URL()},
		{"CONNECT with Basic", basic.URL()},
		{"CONNECT in pieces", odd.URL()},
		{"CONNECT over TLS", https.URL()},
		{"SOCKS5", socks.URL()},
		{"SOCKS5 with password", socksPw.URL()},
		{"socks5h", socksH},
		// The proxy does not ask for the password.
		{"SOCKS5 with needless password", &url.URL{Scheme: "socks5", Host: socks.Addr(), User: url.UserPassword("u", "p")}},
	} {
		for _, target := range []string{ws, wss} {
			t.Run(tt.name+" "+target[:3], func(t *testing.T) {
				var steps []Step
				d := Options{TLS: ca.ClientConfig(), ProxyTLS: ca.ClientConfig(), Resolver: resolver, Trace: func(e Event) {
					if e.Err != nil || e.Detail == "" || e.Addr == "" {
						t.Errorf("event %+v", e)
					}
					steps = append(steps, e.Step)
				}}
				want := []Step{StepConfiguration, StepDNS, StepTCP}
				if tt.proxy != nil {
					d.Proxy = always(tt.proxy)
					want = []Step{StepConfiguration, StepTCP, StepProxy}
				}
				if target == wss {
					want = append(want, StepTLS)
				}
				want = append(want, StepUpgrade)
				c, err := Dial(dialCtx(t), target, &d)
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseNow()
				checkEcho(t, c)
				if !slices.Equal(steps, want) {
					t.Errorf("steps %v, want %v", steps, want)
				}
			})
		}
	}
	if r := basic.Requests()[0]; r.UserAgent() != DefaultUserAgent || r.Host != name+":"+plainPort {
		t.Errorf("CONNECT: Host %q, User-Agent %q", r.Host, r.UserAgent())
	}
	own := testnet.NewProxy(t, testnet.ProxyOptions{Hosts: hosts})
	d := Options{Proxy: always(own.URL()), Header: http.Header{"User-Agent": {"test/1"}}}
	c, err := Dial(dialCtx(t), "ws://"+name+":"+plainPort, &d)
	if err != nil {
		t.Fatal(err)
	}
	c.CloseNow()
	if got := own.Requests()[0].Header["User-Agent"]; len(got) != 1 || got[0] != "test/1" {
		t.Errorf("CONNECT: User-Agent %q", got)
	}
	if got := socks.Targets()[0]; got != name+":"+plainPort {
		t.Errorf("SOCKS5 was asked for %q: the name must be left to the proxy", got)
	}
}

func TestDialRequest(t *testing.T) {
	requests := make(chan *http.Request, 1)
	addr := wsServer(t, nil, requests)
	var tokens int
	d := Options{
		Host:      "front.example.com",
		ConnectTo: addr,
		Header:    http.Header{"X-Extra": {"1", "2"}, "User-Agent": {"test/1"}},
		Authorization: func() (string, error) {
			tokens++
			return fmt.Sprintf("Bearer t%d", tokens), nil
		},
	}
	for i := range 2 {
		c, err := Dial(dialCtx(t), "ws://gw.example.com/a%2Fb?x=y", &d)
		if err != nil {
			t.Fatal(err)
		}
		c.CloseNow()
		r := <-requests
		for _, check := range [][2]string{
			{r.Host, "front.example.com"}, {r.RequestURI, "/a%2Fb?x=y"}, {strings.Join(r.Header["User-Agent"], " "), "test/1"},
			{strings.Join(r.Header["X-Extra"], " "), "1 2"},
			{r.Header.Get("Authorization"), fmt.Sprintf("Bearer t%d", i+1)},
			{r.Header.Get("Sec-Websocket-Version"), "13"},
			{r.Header.Get("Sec-Websocket-Extensions") + r.Header.Get("Sec-Websocket-Protocol"), ""},
		} {
			if check[0] != check[1] {
				t.Errorf("got %q, want %q", check[0], check[1])
			}
		}
	}

	for rawURL, want := range map[string]string{
		"ws://gw.example.com:80":           "gw.example.com",
		"ws://gw.example.com:443":          "gw.example.com:443",
		"ws://[::1]:80":                    "[::1]",
		"ws://[fe80::1%25eth0]:9":          "[fe80::1]:9",
		"ws://b\u00fccher.example:80/path": "xn--bcher-kva.example",
	} {
		d := Options{ConnectTo: addr}
		c, err := Dial(dialCtx(t), rawURL, &d)
		if err != nil {
			t.Fatal(err)
		}
		c.CloseNow()
		if r := <-requests; r.Host != want || r.UserAgent() != DefaultUserAgent {
			t.Errorf("%s: Host %q, User-Agent %q", rawURL, r.Host, r.UserAgent())
		}
	}
}

// Errors and events have the host as it is sent: other characters may look the same.
func TestInternationalHostsArePrintedInASCII(t *testing.T) {
	const form = "xn--bcher-kva.example"
	for _, d := range []Options{
		{ConnectTo: testnet.RefusedAddr(t)},
		{Proxy: always(&url.URL{Scheme: "http", Host: "b\u00fccher.example:1"}), Resolver: testnet.NewResolver(t, nil)},
		{ConnectTo: testnet.Reply(t, "HTTP/1.1 302 Found\r\nLocation: https://b\u00fccher.example/\r\n\r\n")},
	} {
		var said strings.Builder
		d.Trace = func(e Event) { fmt.Fprintln(&said, e.Addr, e.Detail, e.Err) }
		_, err := Dial(dialCtx(t), "ws://b\u00fccher.example/tunnel", &d)
		if fmt.Fprintln(&said, err); err == nil || !strings.Contains(said.String(), form) || strings.Contains(said.String(), "\u00fc") {
			t.Errorf("%s", said.String())
		}
	}
}

// The first frame may arrive in the same segment as the 101.
func TestDialKeepsBytesBehind101(t *testing.T) {
	addr := testnet.Serve(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n\x82\x05hello",
			ws.AcceptKey(r.Header.Get("Sec-Websocket-Key")))
		io.Copy(io.Discard, c)
	})
	c, err := Dial(dialCtx(t), "ws://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if op, err := c.NextMessage(); err != nil || op != ws.OpBinary {
		t.Fatal(op, err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}

// The first bytes of the target may arrive in the same segment as the reply of either kind of proxy.
func TestProxyKeepsBytesBehindReply(t *testing.T) {
	behind := []byte(strings.Repeat("0123456789", 300))
	echo := testnet.Echo(t)
	check := func(t *testing.T, nc net.Conn) {
		t.Helper()
		io.WriteString(nc, "end")
		want := string(behind) + "end"
		b := make([]byte, len(want))
		if _, err := io.ReadFull(nc, b); err != nil || string(b) != want {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
		tunnel.CloseWrite(nc)
		if n, err := nc.Read(b); n != 0 || err != io.EOF {
			t.Errorf("after the end: %d, %v", n, err)
		}
	}
	dial := func(t *testing.T, addr string) net.Conn {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(time.Minute))
		return nc
	}
	t.Run("CONNECT", func(t *testing.T) {
		p := testnet.NewProxy(t, testnet.ProxyOptions{Behind: behind})
		nc, _, err := connectHTTP(dial(t, p.Addr()), p.URL(), echo, "x")
		if err != nil {
			t.Fatal(err)
		}
		check(t, nc)
	})
	t.Run("SOCKS5", func(t *testing.T) {
		p := testnet.NewSOCKS(t, testnet.SOCKSOptions{Behind: behind})
		nc := dial(t, p.Addr())
		if err := connectSOCKS(t.Context(), nc, p.URL(), echo); err != nil {
			t.Fatal(err)
		}
		check(t, nc)
	})
}

// TestDialCancel cancels each step while it waits for the peer.
func TestDialCancel(t *testing.T) {
	// silent is a server that cancels the dial when the first bytes have arrived, and does not answer.
	silent := func(t *testing.T, cancel func()) string {
		return testnet.Serve(t, func(c net.Conn) {
			b := make([]byte, 1024)
			c.Read(b)
			cancel()
			io.Copy(io.Discard, c)
		})
	}
	before := openFiles(t)
	for _, tt := range []struct {
		name string
		step Step
		set  func(t *testing.T, d *Options, cancel func()) string
	}{
		{"DNS", StepDNS, func(t *testing.T, d *Options, cancel func()) string {
			r := testnet.NewResolver(t, nil)
			dial := r.Dial
			r.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				cancel()
				return dial(ctx, network, addr)
			}
			d.Resolver = r
			return "ws://silent.example.com"
		}},
		{"CONNECT", StepProxy, func(t *testing.T, d *Options, cancel func()) string {
			d.Proxy = always(&url.URL{Scheme: "http", Host: silent(t, cancel)})
			return "ws://gw.example.com"
		}},
		{"https proxy", StepProxy, func(t *testing.T, d *Options, cancel func()) string {
			d.Proxy = always(&url.URL{Scheme: "https", Host: silent(t, cancel)})
			return "ws://gw.example.com"
		}},
		{"SOCKS5", StepProxy, func(t *testing.T, d *Options, cancel func()) string {
			d.Proxy = always(&url.URL{Scheme: "socks5", Host: silent(t, cancel)})
			return "ws://gw.example.com"
		}},
		{"TLS", StepTLS, func(t *testing.T, d *Options, cancel func()) string { return "wss://" + silent(t, cancel) }},
		{"upgrade", StepUpgrade, func(t *testing.T, d *Options, cancel func()) string { return "ws://" + silent(t, cancel) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			d := Options{ConnectTimeout: -1, HandshakeTimeout: -1}
			var last Event
			d.Trace = func(e Event) { last = e }
			rawURL := tt.set(t, &d, func() { cancel(why) })
			c, err := Dial(ctx, rawURL, &d)
			if err == nil {
				c.CloseNow()
				t.Fatal("no error")
			}
			var se *Error
			if !errors.As(err, &se) || se.Step != tt.step || !errors.Is(err, why) || se.Permanent {
				t.Errorf("got %v", err)
			}
			if last.Err != err {
				t.Errorf("last event %+v", last)
			}
		})
	}
	// The resolver closes its sockets a little later.
	waitFor(t, "the descriptors to be closed", func() bool { return openFiles(t) <= before })
}

// waitFor polls until ok is true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// openFiles returns the number of this process's descriptors, or 0 where the system does not tell.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

func TestDialCanceledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Dial(ctx, "ws://"+testnet.Silent(t), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The end of the context after Dial has returned does not affect the connection.
func TestDialOutlivesContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, "ws://"+wsServer(t, nil, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	cancel()
	checkEcho(t, c)
}

// A deadlineConn records the last deadline that was set.
type deadlineConn struct {
	net.Conn
	last time.Time
}

func (c *deadlineConn) SetDeadline(t time.Time) error {
	c.last = t
	return c.Conn.SetDeadline(t)
}

func TestStepDeadline(t *testing.T) {
	nc, err := net.Dial("tcp", testnet.Silent(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	k := &deadlineConn{Conn: nc}
	a := &attempt{Options: &Options{}}
	err = a.within(t.Context(), k, func(context.Context) error {
		if until := time.Until(k.last); until <= 0 || until > DefaultHandshakeTimeout {
			t.Errorf("the deadline is in %v", until)
		}
		return nil
	})
	if err != nil || !k.last.IsZero() {
		t.Errorf("a deadline is left behind: %v, %v", k.last, err)
	}
}
