package server

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"

	_ "adit/internal/extendedconnect"
	"adit/tunnel/ws"
)

// The site's own WebSockets pass through for a browser that uses HTTP/2.
func TestProxySiteUpgradeOverHTTP2(t *testing.T) {
	closed := make(chan error, 1)
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !ws.IsUpgrade(r) || r.Header.Get(":protocol") != "" || r.Header.Get("Origin") != "https://a.test":
			t.Errorf("the site sees %s %s %v", r.Method, r.URL, r.Header)
			fallthrough
		case r.URL.Path == "/page":
			io.WriteString(w, "a page")
			return
		case r.URL.Path == "/missing":
			http.NotFound(w, r)
			return
		}
		c, err := ws.Accept(w, r, &ws.AcceptOptions{Subprotocol: func(offered []string) string { return offered[0] }})
		if err != nil {
			t.Error(err)
			return
		}
		for {
			op, err := c.NextMessage()
			if err != nil {
				c.Close(1000, "")
				closed <- err
				return
			}
			text, err := io.ReadAll(c)
			if err == nil {
				err = c.WriteMessage(op, text)
			}
			if err != nil {
				closed <- err
				return
			}
		}
	})
	s := httptest.NewUnstartedServer(mustProxy(t, b.URL))
	s.EnableHTTP2 = true
	s.Config.ReadTimeout = 100 * time.Millisecond // a WebSocket outlives it
	s.StartTLS()
	t.Cleanup(s.Close)
	transport := &http2.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	t.Cleanup(transport.CloseIdleConnections)
	connect := func(path string) (*http.Response, *io.PipeWriter) {
		t.Helper()
		body, toSite := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, s.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{":protocol": {"websocket"}, "Origin": {"https://a.test"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Protocol": {"chat"}}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { toSite.Close(); resp.Body.Close() })
		return resp, toSite
	}
	for path, want := range map[string]string{"/page": "a page", "/missing": "404 page not found\n"} {
		resp, _ := connect(path)
		if text, err := io.ReadAll(resp.Body); resp.StatusCode != 404 || string(text) != want || err != nil {
			t.Errorf("%s: %s %q %v", path, resp.Status, text, err)
		}
	}
	resp, toSite := connect("/ws")
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Sec-WebSocket-Protocol") != "chat" || resp.Header.Get("Sec-WebSocket-Accept") != "" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	// Masked with zeroes: a text message, later a close message.
	for range 2 {
		if _, err := toSite.Write([]byte("\x81\x85\x00\x00\x00\x00hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("\x81\x05hello"))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "\x81\x05hello" {
			t.Fatalf("%q, %v", got, err)
		}
		time.Sleep(s.Config.ReadTimeout) // the deadline has to pass
	}
	if _, err := toSite.Write([]byte("\x88\x82\x00\x00\x00\x00\x03\xe8")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "\x88\x02\x03\xe8" {
		t.Errorf("the end: %q, %v", got, err)
	}
	<-closed

	// The connection to the site ends with the visitor's.
	resp, toSite = connect("/ws")
	toSite.CloseWithError(io.ErrUnexpectedEOF)
	resp.Body.Close()
	select {
	case <-closed:
	case <-time.After(watchdog):
		t.Error("the site still has the visitor who left")
	}
	r := httptest.NewRequest(http.MethodConnect, "http://127.0.0.1:22", nil)
	w := httptest.NewRecorder()
	mustProxy(t, b.URL).ServeHTTP(w, r)
	if w.Code != 405 {
		t.Errorf("a plain CONNECT: %d", w.Code)
	}
}
