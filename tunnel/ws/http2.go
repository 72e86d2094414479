package ws

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// AcceptConnect is Accept for a request over HTTP/2 (IsExtendedConnect), which it answers with 200. The
// connection is a stream inside the client's HTTP/2 connection and lives only as long as the HTTP handler:
// before the handler returns, Close or CloseNow must have returned, and all reads and writes. A request that
// is not a valid handshake is answered with 400.
//
// The net.Conn beneath differs from a socket in two ways. A read that ends by a deadline ends all reading.
// And it has no half-close: the end of the stream is sent when the handler returns.
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
	// The HTTP server's own deadlines were meant for requests.
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

// remoteOf returns the address of r's sender.
func remoteOf(r *http.Request) net.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.UnixAddr{Net: "unix", Name: r.RemoteAddr}
	}
	return net.TCPAddrFromAddrPort(ap)
}
