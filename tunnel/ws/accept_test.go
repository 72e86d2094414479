package ws

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs an HTTP server that passes the results of Accept to the test.
func serve(t *testing.T, o *AcceptOptions) (addr string, conns chan *Conn, errs chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns, errs = make(chan *Conn, 1), make(chan error, 1)
	srv := &http.Server{
		ReadTimeout: watchdog, WriteTimeout: watchdog,
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := Accept(w, r, o)
			if err != nil {
				errs <- err
				return
			}
			conns <- c
		}),
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String(), conns, errs
}

// handshake returns a valid request, with lines added, or removed by "-Name".
func handshake(changes ...string) string {
	lines := []string{
		"GET /tunnel HTTP/1.1",
		"Host: example.com",
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Version: 13",
	}
	for _, ch := range changes {
		if name, found := strings.CutPrefix(ch, "-"); found {
			kept := lines[:1]
			for _, l := range lines[1:] {
				if !strings.HasPrefix(l, name+":") {
					kept = append(kept, l)
				}
			}
			lines = kept
		} else if !strings.Contains(ch, ": ") {
			lines[0] = ch
		} else {
			lines = append(lines, ch)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestAccept(t *testing.T) {
	pick := func(name string) func([]string) string {
		return func([]string) string { return name }
	}
	tests := []struct {
		name    string
		request string
		pick    func([]string) string
		status  int
		sub     string
	}{
		{"plain", handshake(), nil, 101, ""},
		{"lists and case", handshake("-Upgrade", "upgrade: foo, WebSocket", "-Connection", "connection: keep-alive, UPGRADE"), nil, 101, ""},
		{"several lines", handshake("-Connection", "Connection: keep-alive", "Connection: Upgrade"), nil, 101, ""},
		{"extensions are not agreed to", handshake("Sec-WebSocket-Extensions: permessage-deflate"), nil, 101, ""},
		{"subprotocol", handshake("Sec-WebSocket-Protocol: chat, binary"), pick("binary"), 101, "binary"},
		{"subprotocol in two lines", handshake("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: binary"), pick("binary"), 101, "binary"},
		{"subprotocol not offered", handshake("Sec-WebSocket-Protocol: chat"), pick("binary"), 101, ""},
		{"no subprotocol offered", handshake(), pick("binary"), 101, ""},
		{"no picker", handshake("Sec-WebSocket-Protocol: chat"), nil, 101, ""},
		{"origin", handshake("Origin: https://example.com"), nil, 101, ""},

		{"POST", handshake("POST / HTTP/1.1", "Content-Length: 0"), nil, 405, ""},
		{"HTTP/1.0", handshake("GET / HTTP/1.0"), nil, 426, ""},
		{"no upgrade", handshake("-Upgrade"), nil, 426, ""},
		{"other upgrade", handshake("-Upgrade", "Upgrade: h2c"), nil, 426, ""},
		{"upgrade beyond ASCII", handshake("-Upgrade", "Upgrade: web\u017focket"), nil, 426, ""}, // which folds to an s
		{"no connection", handshake("-Connection"), nil, 426, ""},
		{"connection close", handshake("-Connection", "Connection: close"), nil, 426, ""},
		{"old version", handshake("-Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), nil, 426, ""},
		{"no version", handshake("-Sec-WebSocket-Version"), nil, 426, ""},
		{"versions in one line", handshake("-Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8"), nil, 426, ""},
		{"two versions", handshake("Sec-WebSocket-Version: 13"), nil, 400, ""},
		{"no key", handshake("-Sec-WebSocket-Key"), nil, 400, ""},
		{"two keys", handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), nil, 400, ""},
		{"short key", handshake("-Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), nil, 400, ""},
		{"key not base64", handshake("-Sec-WebSocket-Key", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), nil, 400, ""},
		{"key with stray bits", handshake("-Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="), nil, 400, ""},
		{"two origins", handshake("Origin: https://a", "Origin: https://b"), nil, 400, ""},
		{"body", handshake("Content-Length: 5") + "hello", nil, 400, ""},
		{"chunked body", handshake("Transfer-Encoding: chunked") + "0\r\n\r\n", nil, 400, ""},
		{"empty subprotocol", handshake("Sec-WebSocket-Protocol: a,,b"), nil, 400, ""},
		{"bad subprotocol", handshake("Sec-WebSocket-Protocol: a b"), nil, 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr, conns, errs := serve(t, &AcceptOptions{
				Subprotocol: tt.pick,
				Header:      http.Header{"X-Extra": {"yes"}, "Sec-Websocket-Accept": {"forged"}, "Upgrade": {"forged"}},
			})
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(watchdog))
			io.WriteString(raw, tt.request)
			br := bufio.NewReader(raw)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Fatalf("answer %s, want %d", resp.Status, tt.status)
			}
			if tt.status != 101 {
				if v := resp.Header.Get("Sec-WebSocket-Version"); (v == "13") != (tt.status == 426) {
					t.Errorf("Sec-WebSocket-Version is %q", v)
				}
				if err := <-errs; err == nil {
					t.Error("no error")
				}
				return
			}
			c := <-conns
			defer c.CloseNow()
			want := http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "X-Extra": {"yes"},
				// The example of RFC 6455 section 1.3.
				"Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
			}
			if tt.sub != "" {
				want.Set("Sec-WebSocket-Protocol", tt.sub)
			}
			if fmt.Sprint(resp.Header) != fmt.Sprint(want) {
				t.Errorf("header %v, want %v", resp.Header, want)
			}
			if c.Subprotocol() != tt.sub {
				t.Errorf("subprotocol %q, want %q", c.Subprotocol(), tt.sub)
			}
			s := bothSides[0]
			if err := c.WriteMessage(OpText, []byte("hi")); err != nil {
				t.Fatal(err)
			}
			if f := s.mustFrame(t, br); f != (rawFrame{fin | text, "hi"}) {
				t.Errorf("read %q", f)
			}
		})
	}
}

// Frames that arrive in the same segment as the request are read.
func TestAcceptEarlyFrames(t *testing.T) {
	addr, conns, _ := serve(t, nil)
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(watchdog))
	s := bothSides[0]
	b := []byte(handshake())
	for i := range 200 {
		b = append(b, s.frame(fin|text, fmt.Sprint("early ", i))...)
	}
	b = append(b, s.frame(fin|closE, "")...)
	raw.Write(b)
	c := <-conns
	all, err := readAll(c, 100)
	if len(all) != 200 || all[0].payload != "early 0" || all[199].payload != "early 199" || endOf(err) != 1005 {
		t.Errorf("%d messages, %v", len(all), err)
	}
	raw.(*net.TCPConn).CloseWrite()
	if err := c.Close(StatusNormal, ""); err != nil {
		t.Error(err)
	}
}

// The HTTP server's deadlines are cleared after the handshake.
func TestAcceptClearsDeadlines(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deadlines := make(chan time.Time, 100)
	conns := make(chan *Conn, 1)
	srv := &http.Server{ReadTimeout: watchdog, WriteTimeout: watchdog, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		conns <- c
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(deadlineListener{ln, deadlines}) }()
	defer func() { srv.Close(); <-done }()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	io.WriteString(raw, handshake())
	c := <-conns
	defer c.CloseNow()
	var last time.Time
	for len(deadlines) > 0 {
		last = <-deadlines
	}
	if !last.IsZero() {
		t.Errorf("the last deadline is %v", last)
	}
}

type deadlineListener struct {
	net.Listener
	deadlines chan time.Time
}

func (l deadlineListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return deadlineConn{nc, l.deadlines}, err
}

// A deadlineConn records the deadlines that are set for both directions.
type deadlineConn struct {
	net.Conn
	deadlines chan time.Time
}

func (c deadlineConn) SetDeadline(t time.Time) error {
	c.deadlines <- t
	return c.Conn.SetDeadline(t)
}

func TestAcceptWithoutHijack(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake())))
	if err != nil {
		t.Fatal(err)
	}
	w := &plainWriter{header: http.Header{}}
	if _, err := Accept(w, r, nil); !errors.Is(err, http.ErrNotSupported) || w.status != 500 {
		t.Errorf("%d, %v", w.status, err)
	}
}

type plainWriter struct {
	header http.Header
	status int
}

func (w *plainWriter) Header() http.Header         { return w.header }
func (w *plainWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *plainWriter) WriteHeader(status int)      { w.status = status }

// Whatever a client sends instead of a handshake, the server answers or closes, and does not panic.
func FuzzHandshake(f *testing.F) {
	f.Add("GET", "websocket", "Upgrade", "13", "dGhlIHNhbXBsZSBub25jZQ==", "chat, binary")
	f.Add("GET", "h2c,WebSocket", "close, upgrade", "13,8", "", ",")
	f.Fuzz(func(t *testing.T, method, upgrade, connection, version, key, protocols string) {
		r := &http.Request{Method: method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			"Upgrade": {upgrade}, "Connection": {connection}, "Sec-Websocket-Version": {version},
			"Sec-Websocket-Key": {key}, "Sec-Websocket-Protocol": {protocols},
		}}
		w := &plainWriter{header: http.Header{}}
		offered, err := checkHandshake(r)
		if err != nil {
			refuse(w, err)
			if w.status != 400 && w.status != 405 && w.status != 426 {
				t.Fatalf("status %d", w.status)
			}
			return
		}
		for _, p := range offered {
			head := answerHead(key, p, http.Header{"X": {p}})
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(head))), nil)
			if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != p {
				t.Fatalf("answer %q: %v", head, err)
			}
		}
	})
}
