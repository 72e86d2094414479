package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	_ "adit/internal/extendedconnect"
	"adit/internal/testnet"
)

// h2Stream is an extended CONNECT as a net.Conn, with the methods that tests use.
type h2Stream struct {
	net.Conn
	io.Writer
	io.Reader
	end func() error
}

func (s h2Stream) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s h2Stream) Write(p []byte) (int, error) { return s.Writer.Write(p) }
func (s h2Stream) Close() error                { return s.end() }

// h2 returns an HTTP/2 client of the gateway that uses one connection.
func (g *gateway) h2(t *testing.T) *http2.Transport {
	t.Helper()
	config := g.ca.ClientConfig()
	config.ServerName, config.NextProtos = "localhost", []string{"h2"}
	tr := &http2.Transport{TLSClientConfig: config}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func h2Knock(t *testing.T, tr *http2.Transport, url string, header http.Header) *webSocket {
	t.Helper()
	return h2KnockFor(t, tr, url, header, "websocket")
}

// h2KnockFor is h2Knock with another spelling of the protocol.
func h2KnockFor(t *testing.T, tr *http2.Transport, url string, header http.Header, protocol string) *webSocket {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	watch := time.AfterFunc(watchdog, cancel)
	t.Cleanup(func() { watch.Stop() })
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, url, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "gw.test"
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set(":protocol", protocol)
	req.Header.Set("Sec-WebSocket-Version", "13")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close(); w.Close() })
	return &webSocket{
		Conn: h2Stream{Reader: resp.Body, Writer: w, end: func() error {
			cancel()
			return w.CloseWithError(context.Canceled) // the transport waits for it
		}},
		t: t, br: bufio.NewReader(resp.Body), resp: resp,
	}
}

// An HTTP/2 connection is counted as unauthenticated again when no route uses it.
func TestPreAuthLimiterCountsHTTP2Again(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
	tr := g.h2(t)
	for range 2 {
		ws := h2Knock(t, tr, "https://"+g.addr+"/r", nil)
		c := b.next(t)
		eventually(t, "a route's connection is let in", func() bool { return g.limiter.len() == 0 })
		ws.send(closeF, closePayload(1000, ""))
		c.Close()
		ws.wantClose(1000, false)
		eventually(t, "it is counted when the route is done with it", func() bool { return g.limiter.len() == 1 })
	}
}

func TestRouteOverHTTP2(t *testing.T) {
	b := accepting(t)
	echo := testnet.Echo(t)
	g := startRoutes(t,
		Route{Path: "/r", Backends: []string{b.addr}},
		Route{Path: "/echo", Backends: []string{echo}},
		Route{Path: "/alice", Backends: []string{echo}, Users: []string{"alice"}})
	tr := g.h2(t)
	url := "https://" + g.addr

	t.Run("echo", func(t *testing.T) {
		big := strings.Repeat("0123456789", 300000)
		var all sync.WaitGroup
		for range 5 { // concurrently on one connection
			all.Go(func() {
				ws := h2Knock(t, tr, url+"/echo", http.Header{"Sec-Websocket-Protocol": {"chat, binary"}})
				if ws.resp.StatusCode != 200 || ws.resp.Header.Get("Sec-WebSocket-Protocol") != "binary" || ws.resp.Header.Get("Sec-WebSocket-Accept") != "" {
					t.Errorf("%s, %v", ws.resp.Status, ws.resp.Header)
					return
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					ws.Write(maskedFrame(binMsg, big))
				}()
				for got := 0; got < len(big); {
					f, p, err := ws.next()
					if err != nil || f != binMsg || p != big[got:got+len(p)] {
						t.Errorf("after %d bytes: %#x, %v", got, f, err)
						return
					}
					got += len(p)
				}
				<-done
				ws.Write(maskedFrame(pingF, "p"))
				if f, p, _ := ws.next(); f != pongF || p != "p" {
					t.Errorf("%#x %q for a ping", f, p)
				}
				ws.Write(maskedFrame(closeF, closePayload(1000, "")))
				if f, _, _ := ws.next(); f != closeF {
					t.Errorf("%#x for a Close", f)
				}
				if _, err := ws.br.ReadByte(); err != io.EOF {
					t.Errorf("behind the Close: %v", err)
				}
			})
		}
		all.Wait()
	})
	t.Run("backend ends", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		c := b.next(t)
		io.WriteString(c, "data")
		c.CloseWrite()
		if got := ws.wantClose(1000, true); got != "data" {
			t.Errorf("%q came before the Close", got)
		}
		wantEOF(t, c)
		c.Close()
	})
	t.Run("backend ends, no answer", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		c := b.next(t)
		c.CloseWrite()
		ws.wantClose(1000, false)
		wantReset(t, c)
	})
	t.Run("backend is reset", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		reset(b.next(t))
		ws.wantClose(1011, true)
	})
	t.Run("client closes", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		c := b.next(t)
		ws.send(binMsg, "data")
		ws.send(closeF, closePayload(4000, ""))
		wantRead(t, c, "data")
		wantEOF(t, c)
		c.Close()
		ws.wantClose(4000, false)
	})
	t.Run("client is lost", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		c := b.next(t)
		ws.send(binMsg, "data")
		wantRead(t, c, "data")
		ws.Conn.Close()
		wantReset(t, c)
	})
	t.Run("client reads nothing and is lost", func(t *testing.T) {
		ws := h2Knock(t, tr, url+"/r", nil)
		c := b.next(t)
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			if _, err := io.WriteString(c, strings.Repeat("x", 1<<20)); err != nil {
				break
			}
		}
		ws.Conn.Close()
		wantReset(t, c)
	})
	t.Run("refused", func(t *testing.T) {
		for path, want := range map[string]struct {
			header http.Header
			status int
		}{
			"/alice":   {http.Header{"Authorization": {"Bearer alice-token"}}, 200},
			"/alice/":  {http.Header{"Authorization": {"Bearer x"}}, 404},
			"/missing": {nil, 404},
			"/tunnel":  {http.Header{"Authorization": {"Bearer alice-token"}}, 404},
			"/echo":    {http.Header{"Origin": {"https://evil.example"}}, 403},
			"/echo/":   {http.Header{"Sec-Websocket-Version": {"13", "8"}}, 200}, // h2Knock sets it
		} {
			ws := h2Knock(t, tr, url+path, want.header)
			if ws.resp.StatusCode != want.status {
				t.Errorf("%s: %s, want %d", path, ws.resp.Status, want.status)
			}
			ws.Conn.Close()
		}
	})
	t.Run("site", func(t *testing.T) {
		req, _ := http.NewRequest("GET", url+"/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	})
	g.quiet(t)
}

// net/http does not end a route's connection at the deadline of its request.
func TestHTTP2OutlivesTheRequestTimeout(t *testing.T) {
	g := start(t, Config{RequestTimeout: 100 * time.Millisecond}, Access{Routes: []Route{{Path: "/r", Backends: []string{testnet.Echo(t)}}}})
	ws := h2Knock(t, g.h2(t), "https://"+g.addr+"/r", nil)
	time.Sleep(300 * time.Millisecond) // the timeout itself
	ws.send(binMsg, "x")
	ws.want(binMsg, "x")
	ws.send(closeF, "")
	ws.wantClose(0, false)
}

func TestDrainOverHTTP2(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
	ws := h2Knock(t, g.h2(t), "https://"+g.addr+"/r", nil)
	c := b.next(t)
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- g.Shutdown(ctx) }()
	eventually(t, "the server is stopping", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.stopping
	})
	ws.send(binMsg, "x")
	wantRead(t, c, "x")
	cancel()
	ws.wantClose(1001, true)
	wantReset(t, c)
	if err := <-down; err == nil {
		t.Error("Shutdown says nothing of the connection that it cut")
	}
}

// Without TLS, as behind HAProxy.
func TestRouteOverUnencryptedHTTP2(t *testing.T) {
	g := startTLS(t, Config{}, Access{Routes: []Route{{Path: "/r", Backends: []string{testnet.Echo(t)}}}}, testnet.NewCA(t, "x"), nil)
	tr := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	ws := h2Knock(t, tr, "http://"+g.addr+"/r", nil)
	ws.send(binMsg, "x")
	ws.want(binMsg, "x")
	ws.send(closeF, "")
	ws.wantClose(0, false)
}

// HTTP/2 is offered while there are routes.
func TestALPN(t *testing.T) {
	g := startRoutes(t)
	offered := func() string {
		config := g.ca.ClientConfig()
		config.ServerName, config.NextProtos = "localhost", []string{"h2", "http/1.1"}
		c, err := tls.Dial("tcp", g.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().NegotiatedProtocol
	}
	if got := offered(); got == "h2" {
		t.Error("HTTP/2 without routes")
	}
	a := Access{Users: users(t, user("alice")), Routes: []Route{{Path: "/r", Backends: []string{"127.0.0.1:1"}}}}
	if err := g.SetAccess(a); err != nil {
		t.Fatal(err)
	}
	if got := offered(); got != "h2" {
		t.Errorf("%q with routes", got)
	}
	a.Routes = nil
	if err := g.SetAccess(a); err != nil {
		t.Fatal(err)
	}
	if got := offered(); got == "h2" {
		t.Error("HTTP/2 when the routes are gone")
	}
}

// haproxy passes on the case in which a client writes "Upgrade: WebSocket".
func TestExtendedConnectProtocolInAnyCase(t *testing.T) {
	g := startRoutes(t, Route{Path: "/r", Backends: []string{testnet.Echo(t)}})
	ws := h2KnockFor(t, g.h2(t), "https://"+g.addr+"/r", nil, "WebSocket")
	if ws.resp.StatusCode != 200 {
		t.Fatal(ws.resp.Status)
	}
	ws.send(binMsg, "x")
	ws.want(binMsg, "x")
}
