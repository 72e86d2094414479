package ws

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// IsExtendedConnect reports whether r asks for a WebSocket over HTTP/2: a
// CONNECT with the protocol websocket, RFC 8441. It does not check the rest of
// the handshake. Go's HTTP/2 server only lets such requests through when
// GODEBUG has http2xconnect=1 at the start of the process.
func IsExtendedConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket"
}

// CheckHandshake checks a request for which IsUpgrade or IsExtendedConnect is
// true as Accept and AcceptConnect do, without accepting it yet, and returns
// the subprotocols that it offers. A bad one is answered here, as Accept says.
func CheckHandshake(w http.ResponseWriter, r *http.Request) (offered []string, err error) {
	if IsExtendedConnect(r) {
		offered, err = checkConnect(r)
	} else {
		offered, err = checkHandshake(r)
	}
	if err != nil {
		refuse(w, err)
		return nil, fmt.Errorf("accepting a WebSocket: %w", err)
	}
	return offered, nil
}

// checkConnect checks a request over HTTP/2 (RFC 8441 section 5), which has
// neither key nor upgrade.
func checkConnect(r *http.Request) ([]string, error) {
	for _, key := range []string{"Sec-WebSocket-Version", "Origin"} {
		if len(r.Header.Values(key)) > 1 {
			return nil, &badHandshake{http.StatusBadRequest, "more than one " + key}
		}
	}
	if r.Header.Get("Sec-WebSocket-Version") != "13" {
		return nil, &badHandshake{http.StatusBadRequest, wrongVersion}
	}
	offered, err := offeredSubprotocols(r)
	if err != nil {
		return nil, &badHandshake{http.StatusBadRequest, err.Error()}
	}
	return offered, nil
}

// AcceptConnect is Accept for a request over HTTP/2 (IsExtendedConnect), which
// it answers with 200. The connection is a stream inside the client's HTTP/2
// connection and lives only as long as the handler: it must have been closed,
// by Close or CloseNow, and its readers and writers have returned, before the
// handler returns. A request that is no valid handshake is answered with 400.
//
// Two things differ below the Conn. A read that ends by a deadline ends all
// reading. And there is no half-close: the end of the stream leaves with the
// handler's return.
func AcceptConnect(w http.ResponseWriter, r *http.Request, o *AcceptOptions) (*Conn, error) {
	if o == nil {
		o = &AcceptOptions{}
	}
	offered, err := CheckHandshake(w, r)
	if err != nil {
		return nil, err
	}
	subprotocol := o.subprotocol(offered)
	h := w.Header()
	for name, values := range o.Header {
		name = http.CanonicalHeaderKey(name)
		if name == "Content-Length" || strings.HasPrefix(name, "Sec-Websocket-") {
			continue
		}
		h[name] = append(h[name], values...)
	}
	if subprotocol != "" {
		h.Set("Sec-WebSocket-Protocol", subprotocol)
	}
	s := &connectStream{body: r.Body, w: w, rc: http.NewResponseController(w), remote: remoteOf(r)}
	s.local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	// The server's own deadlines were for requests.
	err = errors.Join(s.SetReadDeadline(time.Time{}), s.SetWriteDeadline(o.deadline()))
	if err == nil {
		w.WriteHeader(http.StatusOK)
		err = s.flush()
	}
	if err == nil {
		err = s.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("accepting a WebSocket: answering: %w", err)
	}
	c := newConn(s, nil, false, r.TLS != nil, o.Conn)
	c.subprotocol = subprotocol
	return c, nil
}

func remoteOf(r *http.Request) net.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.UnixAddr{Net: "unix", Name: r.RemoteAddr}
	}
	return net.TCPAddrFromAddrPort(ap)
}

// connectStream is a net.Conn over the request and the answer of an extended
// CONNECT. It is done with both when Close returns.
type connectStream struct {
	body          io.ReadCloser
	w             http.ResponseWriter
	rc            *http.ResponseController
	local, remote net.Addr

	mu      sync.Mutex
	closed  bool
	ended   bool // our direction has ended: nothing more is read or written
	late    bool // the write deadline has passed
	writing bool
	timer   *time.Timer   // of the write deadline
	idle    chan struct{} // closed by the last write, for Close
}

func (s *connectStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	closed, ended := s.closed, s.ended
	s.mu.Unlock()
	switch {
	case closed:
		return 0, net.ErrClosed
	case ended:
		return 0, io.EOF
	}
	return s.body.Read(p)
}

func (s *connectStream) Write(p []byte) (int, error) {
	if err := s.beginWrite(); err != nil {
		return 0, err
	}
	defer s.endWrite()
	n, err := s.w.Write(p)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil && s.isLate() {
		err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return n, err
}

func (s *connectStream) flush() error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.endWrite()
	return s.rc.Flush()
}

func (s *connectStream) beginWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.ended:
		return net.ErrClosed
	case s.late:
		return os.ErrDeadlineExceeded
	}
	s.writing = true
	return nil
}

func (s *connectStream) endWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	if s.idle != nil {
		close(s.idle)
	}
}

func (s *connectStream) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// CloseWrite says that nothing more will be written. The peer sees it when the
// handler returns; what the peer still sends would keep it from that, and so
// reads end, too. Nothing that we sent is lost by that, as it could be in TCP.
func (s *connectStream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// Close releases readers and writers and waits for the latter.
func (s *connectStream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	_ = s.rc.SetReadDeadline(time.Unix(1, 0))
	var idle chan struct{}
	if s.writing {
		idle = make(chan struct{})
		s.idle = idle
		s.resetStream()
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return nil
}

// resetStream makes a write that is blocked return. mu is held.
func (s *connectStream) resetStream() { _ = s.rc.SetWriteDeadline(time.Unix(1, 0)) }

func (s *connectStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *connectStream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.rc.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes. The stream's own deadline is not used for
// it, because that resets the stream even if nothing is being written.
func (s *connectStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.late = false
	if t.IsZero() {
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer != timer || s.closed {
			return
		}
		s.late = true
		if s.writing {
			s.resetStream()
		}
	})
	s.timer = timer
	return nil
}

func (s *connectStream) LocalAddr() net.Addr  { return s.local }
func (s *connectStream) RemoteAddr() net.Addr { return s.remote }
