package ws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"adit/tunnel"
)

// DefaultAcceptTimeout is the value of AcceptOptions.Timeout if that is zero.
const DefaultAcceptTimeout = 10 * time.Second

// AcceptOptions tunes Accept and AcceptConnect. The zero value, or nil, is ready to use.
type AcceptOptions struct {
	// Conn tunes the connection that is returned.
	Conn Options

	// Subprotocol returns one of the subprotocols that the client offers, which are in the client's
	// order, or "" for none. It is called only if the client offers some. Nil means none.
	Subprotocol func(offered []string) string

	// Header is added to the answer, except for fields that belong to the handshake.
	Header http.Header

	// Timeout bounds the writing of the answer. Zero and less mean DefaultAcceptTimeout.
	Timeout time.Duration
}

// subprotocol returns the subprotocol to agree on, or "".
func (o *AcceptOptions) subprotocol(offered []string) string {
	if o.Subprotocol == nil || len(offered) == 0 {
		return ""
	}
	if p := o.Subprotocol(offered); slices.Contains(offered, p) {
		return p
	}
	return ""
}

// deadline returns the time until which the answer must be written.
func (o *AcceptOptions) deadline() time.Time {
	if o.Timeout <= 0 {
		return time.Now().Add(DefaultAcceptTimeout)
	}
	return time.Now().Add(o.Timeout)
}

// Accept answers the opening handshake in r (RFC 6455, section 4.2) and takes the connection from the HTTP
// server. It keeps bytes that arrived after the request, and clears the server's deadlines. It never agrees
// on an extension, nor on a subprotocol that was not offered.
//
// It answers a request that is not a valid handshake with 405, 426 or 400, and its error says what is wrong
// with the request.
func Accept(w http.ResponseWriter, r *http.Request, o *AcceptOptions) (*Conn, error) {
	if o == nil {
		o = &AcceptOptions{}
	}
	offered, err := checkHandshake(r)
	if err != nil {
		refuse(w, err)
		return nil, fmt.Errorf("accepting a WebSocket: %w", err)
	}
	subprotocol := o.subprotocol(offered)
	answer := answerHead(r.Header.Get("Sec-WebSocket-Key"), subprotocol, o.Header)

	nc, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, fmt.Errorf("accepting a WebSocket: taking the connection: %w", err)
	}
	err = nc.SetDeadline(o.deadline())
	if err == nil {
		_, err = nc.Write(answer)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = tunnel.CloseNow(nc)
		return nil, fmt.Errorf("accepting a WebSocket: answering: %w", err)
	}
	c := newConn(nc, brw.Reader, false, r.TLS != nil, o.Conn)
	c.subprotocol = subprotocol
	return c, nil
}

// answerHead returns the 101 answer.
func answerHead(key, subprotocol string, extra http.Header) []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + AcceptKey(key) + "\r\n")
	if subprotocol != "" {
		b.WriteString("Sec-WebSocket-Protocol: " + subprotocol + "\r\n")
	}
	// WriteSubset replaces line breaks in values and drops invalid names. It compares the keys to exclude
	// byte by byte, hence their canonical form.
	_ = extra.WriteSubset(&b, map[string]bool{
		"Upgrade":                  true,
		"Connection":               true,
		"Content-Length":           true,
		"Transfer-Encoding":        true,
		"Sec-Websocket-Accept":     true,
		"Sec-Websocket-Protocol":   true,
		"Sec-Websocket-Extensions": true,
	})
	b.WriteString("\r\n")
	return []byte(b.String())
}
