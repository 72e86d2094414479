package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

// First bytes of frames, with FIN set.
const (
	text   = 0x81
	binMsg = 0x82
	closeF = 0x88
	pingF  = 0x89
	pongF  = 0x8a
)

// webSocket is a client of a route that can break the protocol.
type webSocket struct {
	net.Conn
	t    *testing.T
	br   *bufio.Reader
	resp *http.Response
}

// knock sends a handshake to a route and returns the answer.
func (g *gateway) knock(t *testing.T, path string, fields ...string) *webSocket {
	t.Helper()
	return knockOn(t, g.dialTLS(t), path, fields...)
}

func knockOn(t *testing.T, c net.Conn, path string, fields ...string) *webSocket {
	t.Helper()
	c.SetDeadline(time.Now().Add(watchdog))
	if _, err := io.WriteString(c, upgrade(path, fields...)); err != nil {
		t.Fatal(err)
	}
	ws := &webSocket{Conn: c, t: t, br: bufio.NewReader(c)}
	var err error
	if ws.resp, err = http.ReadResponse(ws.br, &http.Request{Method: "GET"}); err != nil {
		t.Fatal(err)
	}
	return ws
}

// enter is knock that has to succeed.
func (g *gateway) enter(t *testing.T, path string, fields ...string) *webSocket {
	t.Helper()
	ws := g.knock(t, path, fields...)
	if ws.resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%s is answered with %s", path, ws.resp.Status)
	}
	return ws
}

func maskedFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func (ws *webSocket) send(first byte, payload string) {
	ws.t.Helper()
	if _, err := ws.Write(maskedFrame(first, payload)); err != nil {
		ws.t.Fatal(err)
	}
}

func (ws *webSocket) next() (first byte, payload string, err error) {
	var b [8]byte
	if _, err := io.ReadFull(ws.br, b[:2]); err != nil {
		return 0, "", err
	}
	first = b[0]
	n := uint64(b[1])
	switch n {
	case 126:
		io.ReadFull(ws.br, b[:2])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		io.ReadFull(ws.br, b[:8])
		n = binary.BigEndian.Uint64(b[:])
	}
	p := make([]byte, n)
	_, err = io.ReadFull(ws.br, p)
	return first, string(p), err
}

// want reads messages of one type until they make up the data.
func (ws *webSocket) want(first byte, data string) {
	ws.t.Helper()
	got := ""
	for len(got) < len(data) {
		f, p, err := ws.next()
		if err != nil || f != first {
			ws.t.Fatalf("after %d bytes: frame %#x %.100q, %v", len(got), f, p, err)
		}
		got += p
	}
	if got != data {
		ws.t.Fatalf("got %.100q, want %.100q", got, data)
	}
}

func closePayload(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// wantClose reads until a close message, answers it if asked to, and waits for the
// end of the connection. code 0 is a close message without a code.
func (ws *webSocket) wantClose(code int, answer bool) (before string) {
	ws.t.Helper()
	for {
		f, p, err := ws.next()
		if err != nil {
			ws.t.Fatalf("no Close: %v", err)
		}
		if f != closeF {
			before += p
			continue
		}
		got := 0
		if len(p) >= 2 {
			got = int(binary.BigEndian.Uint16([]byte(p)))
		}
		if got != code {
			ws.t.Fatalf("closed with %d %q, want %d", got, p, code)
		}
		if answer {
			ws.send(closeF, p[:min(2, len(p))])
		}
		if _, err := ws.br.ReadByte(); err != io.EOF {
			ws.t.Fatalf("behind the Close: %v", err)
		}
		return before
	}
}

// backendConns are the connections that a route has made to a backend.
type backendConns struct {
	addr  string
	conns chan *net.TCPConn
}

// accepting starts a backend whose connections the test serves itself.
func accepting(t *testing.T) *backendConns {
	t.Helper()
	ln := testnet.Listen(t)
	b := &backendConns{ln.Addr().String(), make(chan *net.TCPConn, 64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(watchdog))
			b.conns <- c.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		close(b.conns)
		for c := range b.conns {
			c.Close()
		}
	})
	return b
}

func (b *backendConns) next(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-b.conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(watchdog):
		t.Fatal("no connection to the backend")
		return nil
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("the backend reads %.100q, %v, want %.100q", b, err, want)
	}
}

func wantEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("the backend reads %.100q, %v, want the end", b, err)
	}
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err == nil || !isGone(err) {
		t.Fatalf("the backend reads %.100q, %v, want a reset", b, err)
	}
}

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// rawTCP returns the socket below a client's TLS.
func (ws *webSocket) rawTCP() *net.TCPConn {
	return ws.Conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn)
}

// quiet waits until no connection of a route is left.
func (g *gateway) quiet(t *testing.T) {
	t.Helper()
	eventually(t, "no connection is left", func() bool {
		for _, r := range g.access.Load().routes {
			r.limit.mu.Lock()
			n := r.limit.total
			r.limit.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}

func startRoutes(t *testing.T, routes ...Route) *gateway {
	t.Helper()
	return start(t, Config{}, Access{Users: users(t, user("alice"), user("bob")), Routes: routes})
}

// For each way that either side can end, check how the other side sees it.
func TestEndings(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<14) // 256 KiB
	tests := []struct {
		name  string
		route Route
		run   func(t *testing.T, ws *webSocket, b *net.TCPConn)
	}{
		{"backend ends", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			io.WriteString(b, big)
			b.Close()
			if got := ws.wantClose(1000, true); got != big {
				t.Errorf("%d bytes came before the Close, want %d", len(got), len(big))
			}
		}},
		{"backend ends while the client sends", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			io.WriteString(b, big)
			b.CloseWrite()
			ws.send(binMsg, "not yet read")
			ws.want(binMsg, big)
			if f, _, err := ws.next(); f != closeF || err != nil {
				t.Fatalf("frame %#x, %v", f, err)
			}
			ws.send(binMsg, " and more")
			ws.send(closeF, closePayload(1000, ""))
			wantRead(t, b, "not yet read and more")
			wantEOF(t, b)
		}},
		{"backend closes with data unread", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "x")
			wantRead(t, b, "x")
			io.WriteString(b, "last data")
			reset(b)
			if got := ws.wantClose(1011, true); got != "last data" && got != "" { // a reset may overtake data
				t.Errorf("%q came before the Close", got)
			}
		}},
		{"backend ends, client does not answer", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			b.CloseWrite()
			ws.wantClose(1000, false)
			wantReset(t, b)
		}},
		{"client closes", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.Write(append(maskedFrame(binMsg, big), maskedFrame(closeF, closePayload(1000, "bye"))...))
			wantRead(t, b, big)
			wantEOF(t, b)
			ws.wantClose(1000, false)
		}},
		{"client closes with 1001", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(closeF, closePayload(1001, ""))
			wantEOF(t, b)
			ws.wantClose(1001, false)
		}},
		{"client closes with nothing", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(closeF, "")
			wantEOF(t, b)
			ws.wantClose(0, false)
		}},
		{"client closes with its own code", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(closeF, closePayload(4321, "mine"))
			wantEOF(t, b)
			ws.wantClose(4321, false)
		}},
		{"client closes, backend goes on", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "data")
			ws.send(closeF, closePayload(1000, ""))
			ws.wantClose(1000, false)
			wantRead(t, b, "data")
			wantEOF(t, b)
			for range 10 { // unread data must not cause a reset
				if _, err := io.WriteString(b, big); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"client closes, backend never ends", Route{LingerTimeout: 50 * time.Millisecond}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(closeF, closePayload(1000, ""))
			ws.wantClose(1000, false)
			wantEOF(t, b)
			eventually(t, "the backend is reset", func() bool {
				_, err := io.WriteString(b, "x")
				return err != nil
			})
		}},
		{"client closes and vanishes", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			// The backend keeps sending, which now fails at the client.
			small := big[:16<<10] // sent before the backend's kernel learns of the failure
			ws.Write(append(maskedFrame(binMsg, small), maskedFrame(closeF, closePayload(1000, ""))...))
			ws.rawTCP().Close()
			io.WriteString(b, big)
			wantRead(t, b, small)
			wantEOF(t, b)
		}},
		{"client gives up", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(closeF, closePayload(1011, "broken"))
			ws.wantClose(1011, false)
			wantReset(t, b)
		}},
		{"client breaks the protocol", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "before")
			ws.send(0xf2, "x")
			ws.wantClose(1002, true)
			wantRead(t, b, "before")
			wantReset(t, b)
		}},
		{"client sends bad text", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(text, "\xff")
			ws.wantClose(1007, true)
			wantReset(t, b)
		}},
		{"client is reset", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "before")
			wantRead(t, b, "before")
			reset(ws.rawTCP())
			wantReset(t, b)
		}},
		{"client ends without a Close", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "before")
			wantRead(t, b, "before")
			ws.rawTCP().CloseWrite()
			wantReset(t, b)
		}},
		{"client ends inside a message", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(0x02, "before") // not final
			wantRead(t, b, "before")
			ws.Conn.Close()
			wantReset(t, b)
		}},
		{"client does not read, backend is reset", Route{}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			b.SetWriteDeadline(time.Now().Add(time.Second))
			for {
				if _, err := io.WriteString(b, big); err != nil {
					break
				}
			}
			reset(b)
		}},
		{"backend's text is none", Route{FrameType: "text"}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			io.WriteString(b, "good \xe2\x82\xac\xff bad")
			if got := ws.wantClose(1011, true); got != "good €" {
				t.Errorf("%q came before the Close", got)
			}
			wantReset(t, b)
		}},
		{"backend's text ends inside a code point", Route{FrameType: "text"}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			io.WriteString(b, "good \xe2\x82")
			b.Close()
			if got := ws.wantClose(1011, true); got != "good " {
				t.Errorf("%q came before the Close", got)
			}
		}},
		{"idle", Route{IdleTimeout: 100 * time.Millisecond}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			ws.send(binMsg, "x")
			wantRead(t, b, "x")
			ws.wantClose(1001, true)
			wantReset(t, b)
		}},
		{"no pong", Route{PingInterval: 50 * time.Millisecond, PongTimeout: 50 * time.Millisecond}, func(t *testing.T, ws *webSocket, b *net.TCPConn) {
			if f, _, err := ws.next(); f != pingF || err != nil {
				t.Fatalf("frame %#x, %v", f, err)
			}
			ws.wantClose(1011, true)
			wantReset(t, b)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := accepting(t)
			test.route.Path, test.route.Backends = "/r", []string{b.addr}
			g := startRoutes(t, test.route)
			ws := g.enter(t, "/r")
			c := b.next(t)
			test.run(t, ws, c)
			ws.Conn.Close()
			c.Close()
			g.quiet(t)
			if t.Failed() {
				t.Log(g.log.Lines("route"))
			}
		})
	}
}

// A client that is slow to read, or whose backend is slow to read, may take longer
// than the pong timeout.
func TestPongIsNotWaitedForBehindData(t *testing.T) {
	const interval, pong = 50 * time.Millisecond, 500 * time.Millisecond
	big := strings.Repeat("x", 16<<20)
	t.Run("client reads nothing", func(t *testing.T) {
		b := accepting(t)
		g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}, PingInterval: interval, PongTimeout: pong})
		ws := g.enter(t, "/r")
		c := b.next(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.WriteString(c, big)
			c.CloseWrite()
		}()
		time.Sleep(3 * (interval + pong)) // the time has to pass
		n := 0
		for {
			f, p, err := ws.next()
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", n, len(big), err)
			}
			if f == pingF {
				ws.send(pongF, p)
			}
			if f == closeF {
				ws.send(closeF, p)
				break
			}
			if f == binMsg {
				n += len(p)
			}
		}
		if n != len(big) {
			t.Errorf("%d of %d bytes came", n, len(big))
		}
		<-done
	})
	t.Run("backend reads nothing", func(t *testing.T) {
		b := accepting(t)
		frames := append(maskedFrame(binMsg, big), maskedFrame(closeF, closePayload(1000, ""))...)
		g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}, PingInterval: interval, PongTimeout: 4 * pong})
		ws := g.enter(t, "/r")
		c := b.next(t)
		done := make(chan error, 1)
		go func() {
			_, err := ws.Write(frames)
			done <- err
		}()
		time.Sleep(11 * (interval + pong))
		n, err := io.Copy(io.Discard, c)
		if n != int64(len(big)) || err != nil {
			t.Errorf("%d of %d bytes came, %v; %v", n, len(big), err, g.log.Wait(t, 1, "route closed"))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
		g.quiet(t)
	})
}

func TestDrain(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
	stays := g.enter(t, "/r")
	first := b.next(t)
	leaves := g.enter(t, "/r")
	second := b.next(t)
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- g.Shutdown(ctx) }()
	eventually(t, "the server is stopping", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.stopping
	})
	// Connections continue during the drain.
	leaves.send(closeF, closePayload(1000, ""))
	leaves.wantClose(1000, false)
	wantEOF(t, second)
	second.Close()
	stays.send(binMsg, "x")
	wantRead(t, first, "x")
	io.WriteString(first, "y")
	stays.want(binMsg, "y")
	eventually(t, "one connection is left", func() bool {
		p := g.access.Load().routes[0].limit
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.total == 1
	})
	cancel()
	stays.wantClose(1001, true)
	wantReset(t, first)
	if err := <-down; err == nil || !strings.Contains(err.Error(), "1 connections of routes were cut short") {
		t.Errorf("Shutdown: %v", err)
	}
}

// What the backend sends after the client has closed is not counted as sent.
func TestSentCountsWhatWasSent(t *testing.T) {
	b := accepting(t)
	g := startRoutes(t, Route{Path: "/r", Backends: []string{b.addr}})
	ws := g.enter(t, "/r")
	c := b.next(t)
	io.WriteString(c, "hello")
	ws.want(binMsg, "hello")
	ws.send(closeF, closePayload(1000, ""))
	wantEOF(t, c)
	c.Write(make([]byte, 1<<20))
	c.Close()
	ws.wantClose(1000, false)
	eventually(t, "the end is logged", func() bool { return len(g.log.Lines("route closed")) == 1 })
	if line := g.log.Lines("route closed")[0]; !strings.Contains(line, "sent=5 ") {
		t.Error(line)
	}
	if sent := g.access.Load().routes[0].counters.totals().sent; sent != 5 {
		t.Errorf("%d bytes are counted", sent)
	}
}
