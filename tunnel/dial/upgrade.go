package dial

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"adit/tunnel/ws"
)

// upgrade does the opening handshake over top (RFC 6455, section 4.1); nc is the socket beneath it.
func (a *attempt) upgrade(ctx context.Context, nc, top net.Conn) (upgraded, error) {
	start := time.Now()
	br := bufio.NewReader(top)
	var detail string
	err := a.within(ctx, nc, func(context.Context) error {
		key := newKey()
		r, err := exchange(top, br, a.upgradeRequest(key))
		if err != nil {
			return err
		}
		detail = (&StatusError{Code: r.status, Reason: r.reason}).Error()
		if r.status != http.StatusSwitchingProtocols {
			return a.refusal(r, br)
		}
		return checkUpgrade(r, key)
	})
	if err == nil {
		a.emit(Event{Step: StepUpgrade, Addr: a.serverURL, Detail: detail, Elapsed: time.Since(start)})
		return upgraded{nc: top, br: br}, nil
	}
	if a.secure && isRemoteAlert(err) {
		tc, _ := top.(*tls.Conn)
		return upgraded{}, a.failTLS(ctx, start, theServer, tc, err)
	}
	cause, hint, permanent := a.upgradeFailure(err)
	return upgraded{}, a.fail(ctx, start, &Error{Step: StepUpgrade, Addr: a.serverURL, Err: cause, hint: hint, Permanent: permanent})
}

// upgradeRequest returns the upgrade request.
func (a *attempt) upgradeRequest(key string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nUser-Agent: %s\r\n",
		a.requestURI, a.hostHeader, key, a.userAgent())
	h := a.Header
	if a.authorization != "" {
		if h = h.Clone(); h == nil {
			h = http.Header{}
		}
		h.Set("Authorization", a.authorization)
	}
	h.WriteSubset(&b, map[string]bool{"User-Agent": true}) // to memory: cannot fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// newKey returns a fresh Sec-WebSocket-Key.
func newKey() string {
	var k [16]byte
	rand.Read(k[:]) // never fails
	return base64.StdEncoding.EncodeToString(k[:])
}

// checkUpgrade checks a 101 reply (RFC 6455, section 4.1).
func checkUpgrade(r *reply, key string) error {
	one := func(name string) string {
		if v := r.header[name]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	switch {
	case !strings.EqualFold(one("Upgrade"), "websocket"):
		return &badUpgradeError{"the Upgrade header is not websocket"}
	case !httpguts.HeaderValuesContainsToken(r.header["Connection"], "upgrade"):
		return &badUpgradeError{"the Connection header has no upgrade"}
	case one("Sec-Websocket-Accept") != ws.AcceptKey(key):
		return &badUpgradeError{"Sec-WebSocket-Accept does not answer our key"}
	case r.header.Get("Sec-Websocket-Extensions") != "":
		return &badUpgradeError{"an extension that was not offered"}
	case r.header.Get("Sec-Websocket-Protocol") != "":
		return &badUpgradeError{"a subprotocol that was not offered"}
	}
	return nil
}

// upgraded is a connection after the upgrade, with the reader that may hold the first frames.
type upgraded struct {
	nc net.Conn
	br *bufio.Reader
}
