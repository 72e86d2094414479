package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"adit/tunnel"
)

// DefaultAcceptTimeout is AcceptOptions.Timeout when that is zero.
const DefaultAcceptTimeout = 10 * time.Second

// AcceptOptions tunes Accept. The zero value, or nil, is useful.
type AcceptOptions struct {
	// Conn tunes the connection that is returned.
	Conn Options

	// Subprotocol picks one of the subprotocols that the client offers, in
	// the client's order; "" picks none. It is only called when some are
	// offered. Nil picks none.
	Subprotocol func(offered []string) string

	// Header is added to the 101 answer. The fields of the handshake itself
	// are left out of it.
	Header http.Header

	// Timeout bounds the writing of the answer. Zero means
	// DefaultAcceptTimeout.
	Timeout time.Duration
}

// subprotocol is the one to agree to, or "".
func (o *AcceptOptions) subprotocol(offered []string) string {
	if o.Subprotocol == nil || len(offered) == 0 {
		return ""
	}
	if p := o.Subprotocol(offered); slices.Contains(offered, p) {
		return p
	}
	return ""
}

// deadline is when the answer must have been written.
func (o *AcceptOptions) deadline() time.Time {
	if o.Timeout <= 0 {
		return time.Now().Add(DefaultAcceptTimeout)
	}
	return time.Now().Add(o.Timeout)
}

// IsUpgrade reports whether r asks for a WebSocket over HTTP/1.1: GET, with
// Upgrade naming websocket and Connection naming upgrade. It does not check
// the rest of the handshake.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet &&
		r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		httpguts.HeaderValuesContainsToken(r.Header.Values("Upgrade"), "websocket") &&
		httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade")
}

// Accept answers the opening handshake in r (RFC 6455 section 4.2) and takes
// the connection from the HTTP server; bytes that have arrived behind the
// request are kept, and deadlines that the server had set are cleared. No
// extension is ever agreed to, and no subprotocol that was not offered.
//
// A request that is no valid handshake is answered here, with 405, 426 or
// 400, and the error says what was wrong with it.
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

// badHandshake is why a request is not a handshake, and the answer to it.
type badHandshake struct {
	status int
	reason string
}

// wrongVersion is the one reason that the answer explains.
const wrongVersion = "Sec-WebSocket-Version is not 13"

func (e *badHandshake) Error() string {
	return fmt.Sprintf("%d: %s", e.status, e.reason)
}

// checkHandshake checks a request over HTTP/1.1 and returns the subprotocols
// that it offers.
func checkHandshake(r *http.Request) ([]string, error) {
	bad := func(status int, reason string) ([]string, error) {
		return nil, &badHandshake{status, reason}
	}
	switch {
	case r.Method != http.MethodGet:
		return bad(http.StatusMethodNotAllowed, "a WebSocket is asked for by GET")
	case !IsUpgrade(r):
		return bad(http.StatusUpgradeRequired, "not an upgrade to websocket over HTTP/1.1")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		// The body would be taken for frames.
		return bad(http.StatusBadRequest, "a handshake has no body")
	}
	for _, key := range []string{"Sec-WebSocket-Version", "Sec-WebSocket-Key", "Origin"} {
		if len(r.Header.Values(key)) > 1 {
			return bad(http.StatusBadRequest, "more than one "+key)
		}
	}
	if r.Header.Get("Sec-WebSocket-Version") != "13" {
		return bad(http.StatusUpgradeRequired, wrongVersion)
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	if b, err := base64.StdEncoding.Strict().DecodeString(key); err != nil || len(b) != 16 || len(key) != 24 {
		return bad(http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64")
	}
	offered, err := offeredSubprotocols(r)
	if err != nil {
		return bad(http.StatusBadRequest, err.Error())
	}
	return offered, nil
}

// offeredSubprotocols returns the subprotocols that r offers, in its order.
// The size of the request's head, which the server bounds, bounds them.
func offeredSubprotocols(r *http.Request) ([]string, error) {
	var offered []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			p = textproto.TrimString(p)
			if !httpguts.ValidHeaderFieldName(p) { // a token, too
				return nil, errors.New("Sec-WebSocket-Protocol is malformed")
			}
			offered = append(offered, p)
		}
	}
	return offered, nil
}

// refuse answers a bad handshake.
func refuse(w http.ResponseWriter, err error) {
	var bad *badHandshake
	if !errors.As(err, &bad) {
		bad = &badHandshake{status: http.StatusBadRequest}
	}
	if bad.reason == wrongVersion {
		// RFC 6455 section 4.4; over HTTP/2 too, whose status is another.
		w.Header().Set("Sec-WebSocket-Version", "13")
	}
	switch bad.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		// RFC 6455 section 4.4, RFC 9110 section 15.5.22.
		w.Header().Set("Sec-WebSocket-Version", "13")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	http.Error(w, http.StatusText(bad.status), bad.status)
}

// AcceptKey is the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455, section 4.2.2).
func AcceptKey(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}

// answerHead makes the 101 answer.
func answerHead(key, subprotocol string, extra http.Header) []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + AcceptKey(key) + "\r\n")
	if subprotocol != "" {
		b.WriteString("Sec-WebSocket-Protocol: " + subprotocol + "\r\n")
	}
	// WriteSubset keeps line breaks out of values and drops bad names. Keys
	// it excludes are compared as they stand, hence the canonical form.
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
