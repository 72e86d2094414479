package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// IsUpgrade reports whether r asks for a WebSocket over HTTP/1.1: GET, with websocket in Upgrade and
// upgrade in Connection. It does not check the rest of the handshake.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet &&
		r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		httpguts.HeaderValuesContainsToken(r.Header.Values("Upgrade"), "websocket") &&
		httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade")
}

// IsExtendedConnect reports whether r asks for a WebSocket over HTTP/2: CONNECT with the protocol
// websocket (RFC 8441), in any case: a proxy may pass on how its client writes Upgrade. It does not check
// the rest of the handshake. Go's HTTP/2 server accepts such requests only if GODEBUG has http2xconnect=1
// when the process starts.
func IsExtendedConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.ProtoMajor == 2 && strings.EqualFold(r.Header.Get(":protocol"), "websocket")
}

// CheckHandshake checks a request for which IsUpgrade or IsExtendedConnect is true, as Accept and
// AcceptConnect do, and returns the subprotocols that it offers. It answers a bad one, as Accept says, and
// leaves a good one to be accepted.
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

// A badHandshake says why a request is not a valid handshake, and the status of the answer.
type badHandshake struct {
	status int
	reason string
}

// wrongVersion is the only reason that the answer explains, by naming our version.
const wrongVersion = "Sec-WebSocket-Version is not 13"

func (e *badHandshake) Error() string {
	return fmt.Sprintf("%d: %s", e.status, e.reason)
}

// checkHandshake checks a request over HTTP/1.1 and returns the subprotocols that it offers.
func checkHandshake(r *http.Request) ([]string, error) {
	bad := func(status int, reason string) ([]string, error) {
		return nil, &badHandshake{status, reason}
	}
	switch {
	case r.Method != http.MethodGet:
		return bad(http.StatusMethodNotAllowed, "the method is not GET")
	case !IsUpgrade(r):
		return bad(http.StatusUpgradeRequired, "not an upgrade to websocket over HTTP/1.1")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		// The body would be read as frames.
		return bad(http.StatusBadRequest, "the request has a body")
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

// checkConnect checks a request over HTTP/2 (RFC 8441, section 5), which has neither a key nor an upgrade.
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

// offeredSubprotocols returns the subprotocols that r offers, in its order. The HTTP server's limit on the
// request's head bounds their number.
func offeredSubprotocols(r *http.Request) ([]string, error) {
	var offered []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			p = textproto.TrimString(p)
			if !httpguts.ValidHeaderFieldName(p) { // tests for a token, which a subprotocol is
				return nil, errors.New("Sec-WebSocket-Protocol is malformed")
			}
			offered = append(offered, p)
		}
	}
	return offered, nil
}

// refuse answers a request that is not a valid handshake.
func refuse(w http.ResponseWriter, err error) {
	var bad *badHandshake
	if !errors.As(err, &bad) {
		bad = &badHandshake{status: http.StatusBadRequest}
	}
	if bad.reason == wrongVersion {
		// RFC 6455, section 4.4; the status differs between HTTP/1.1 and HTTP/2.
		w.Header().Set("Sec-WebSocket-Version", "13")
	}
	switch bad.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		// RFC 6455, section 4.4, and RFC 9110, section 15.5.22.
		w.Header().Set("Sec-WebSocket-Version", "13")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	http.Error(w, http.StatusText(bad.status), bad.status)
}

// AcceptKey returns the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455, section 4.2.2).
func AcceptKey(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}
