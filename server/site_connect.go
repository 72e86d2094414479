package server

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// asUpgrade translates a WebSocket handshake over HTTP/2, an extended CONNECT
// (RFC 8441, section 5), into one over HTTP/1.1, which the proxied site supports,
// and the answer back.
func asUpgrade(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	var key [16]byte
	rand.Read(key[:])
	up := r.Clone(r.Context())
	up.Method, up.Proto, up.ProtoMajor, up.ProtoMinor = http.MethodGet, "HTTP/1.1", 1, 1
	up.Body, up.ContentLength = http.NoBody, 0
	up.Header.Del(":protocol")
	up.Header.Set("Connection", "Upgrade")
	up.Header.Set("Upgrade", "websocket")
	up.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key[:]))
	return &connectWriter{w, r}, up
}

// connectWriter translates the answer to an upgrade into one to an extended
// CONNECT.
type connectWriter struct {
	http.ResponseWriter
	r *http.Request
}

func (w *connectWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader answers without a WebSocket. A 2xx becomes 404, because it would
// tell the client that the WebSocket is open.
func (w *connectWriter) WriteHeader(status int) {
	if status/100 == 2 {
		status = http.StatusNotFound
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack returns the stream as a connection. The head of the answer, which is
// written first, is replaced: it has status 101, and the stream needs 200.
func (w *connectWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	rc := http.NewResponseController(w.ResponseWriter)
	if err := rc.SetReadDeadline(time.Time{}); err != nil { // the deadline of a request's body
		return nil, nil, err
	}
	c := &connectConn{body: w.r.Body, w: w.ResponseWriter, rc: rc}
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(&connectHead{c: c})), nil
}

// connectHead replaces the first write, the head of the answer, and discards
// further ones.
type connectHead struct {
	c    *connectConn
	sent bool
}

func (h *connectHead) Write(p []byte) (int, error) {
	if h.sent {
		return len(p), nil
	}
	h.sent = true
	fields := h.c.w.Header()
	for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Accept"} {
		fields.Del(name)
	}
	h.c.w.WriteHeader(http.StatusOK)
	return len(p), h.c.rc.Flush()
}

// connectConn is the stream of an extended CONNECT. The handler has to close it
// before it returns.
type connectConn struct {
	net.Conn // nil: no other methods are called
	body     io.ReadCloser
	w        http.ResponseWriter
	rc       *http.ResponseController

	mu     sync.Mutex // held while w is written to
	closed bool
}

func (c *connectConn) Read(p []byte) (int, error) { return c.body.Read(p) }

func (c *connectConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.rc.Flush()
	}
	return n, err
}

func (c *connectConn) Close() error {
	if !c.mu.TryLock() {
		c.rc.SetWriteDeadline(time.Now()) // ends a Write that waits for the client
		c.mu.Lock()
	}
	c.closed = true
	c.mu.Unlock()
	return c.body.Close()
}
