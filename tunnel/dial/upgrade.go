package dial

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"adit/tunnel/ws"

	"golang.org/x/net/http/httpguts"
)

// upgraded is a connection past the handshake, with the reader that may hold
// the first frames.
type upgraded struct {
	nc net.Conn
	br *bufio.Reader
}

// handshakes does the proxy, TLS and upgrade steps over the socket nc. It
// closes nothing.
func (a *attempt) handshakes(ctx context.Context, nc net.Conn) (upgraded, error) {
	top := nc
	if a.proxy != nil {
		var err error
		if top, err = a.throughProxy(ctx, nc); err != nil {
			return upgraded{}, err
		}
	}
	if a.secure {
		start := time.Now()
		var tc *tls.Conn
		err := a.within(ctx, nc, func(ctx context.Context) (err error) {
			tc, err = startTLS(ctx, top, a.TLS, a.host)
			return err
		})
		if err != nil {
			return upgraded{}, a.failTLS(ctx, start, theServer, tc, err)
		}
		cs := tc.ConnectionState()
		a.emit(Event{Step: StepTLS, Addr: a.target, Detail: tlsDetail(&cs), Elapsed: time.Since(start), TLS: &cs})
		top = tc
	}
	return a.upgrade(ctx, nc, top)
}

// failTLS makes the error of TLS with who, which is theServer or theProxy, and
// reports it. tc is nil if the handshake has not begun.
func (a *attempt) failTLS(ctx context.Context, start time.Time, who string, tc *tls.Conn, err error) error {
	var cs tls.ConnectionState
	if tc != nil {
		cs = tc.ConnectionState()
	}
	cause, hint, permanent := tlsFailure(err, cs, who)
	serr := &Error{Step: StepTLS, Addr: a.target, Err: cause, hint: hint, Permanent: permanent}
	if who == theProxy {
		serr.Step, serr.Addr, serr.Err = StepProxy, a.dialAddr, fmt.Errorf("TLS: %w", cause)
	}
	return a.fail(ctx, start, serr)
}

// throughProxy has the proxy at the other end of nc connect to the target.
func (a *attempt) throughProxy(ctx context.Context, nc net.Conn) (net.Conn, error) {
	start := time.Now()
	top := nc
	ev := Event{Step: StepProxy, Addr: a.dialAddr}
	fail := func(cause error, hint string, permanent bool) (net.Conn, error) {
		return nil, a.fail(ctx, start, &Error{Step: StepProxy, Addr: a.dialAddr, Err: cause, hint: hint, Permanent: permanent})
	}

	if a.proxy.Scheme == "https" {
		var tc *tls.Conn
		err := a.within(ctx, nc, func(ctx context.Context) (err error) {
			tc, err = startTLS(ctx, nc, a.ProxyTLS, a.proxy.Hostname())
			return err
		})
		if err != nil {
			return nil, a.failTLS(ctx, start, theProxy, tc, err)
		}
		cs := tc.ConnectionState()
		ev.TLS = &cs
		top = tc
	}

	err := a.within(ctx, nc, func(ctx context.Context) (err error) {
		if a.proxy.Scheme == "http" || a.proxy.Scheme == "https" {
			top, ev.Detail, err = connectHTTP(top, a.proxy, a.target, a.userAgent())
			ev.Detail = "CONNECT " + a.target + ": " + ev.Detail
			return err
		}
		ev.Detail = "SOCKS5 connect to " + a.target
		return connectSOCKS(ctx, top, a.proxy, a.target)
	})
	switch {
	case err != nil && isRemoteAlert(err): // TLS 1.3 client authentication
		return nil, a.failTLS(ctx, start, theProxy, nil, err)
	case err != nil && (a.proxy.Scheme == "http" || a.proxy.Scheme == "https"):
		return fail(connectFailure(err, a.proxy, a.target))
	case err != nil:
		return fail(socksFailure(err, a.proxy, a.target))
	}
	ev.Elapsed = time.Since(start)
	a.emit(ev)
	return top, nil
}

// upgrade does the opening handshake over top (RFC 6455, section 4.1); nc is
// the socket below it.
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

// badUpgradeError is a 101 that RFC 6455 does not allow as an answer.
type badUpgradeError struct{ what string }

func (e *badUpgradeError) Error() string {
	return "101, but not a valid WebSocket handshake: " + e.what
}

// checkUpgrade checks a 101 as RFC 6455, section 4.1, asks of a client.
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

// refusal turns a reply other than 101 into an error. For a 400 on a plain
// connection it looks into the body, where servers say that the port is TLS's.
func (a *attempt) refusal(r *reply, br *bufio.Reader) error {
	status := &StatusError{Code: r.status, Reason: r.reason}
	switch {
	case r.status/100 == 3:
		if to, err := url.Parse(r.header.Get("Location")); err == nil && to.Host != "" {
			status.Detail = "to " + redactURL(to)
		} else if err == nil && to.Path != "" {
			status.Detail = "to " + printable(to.EscapedPath())
		}
	case r.status == 401:
		status.Schemes = authSchemes(r.header["Www-Authenticate"])
	case r.status == 407:
		status.Schemes = authSchemes(r.header["Proxy-Authenticate"])
	case r.status == 400 && !a.secure:
		const most = 2048
		n := int64(most)
		if cl, err := strconv.ParseInt(r.header.Get("Content-Length"), 10, 64); err == nil && cl >= 0 {
			n = min(n, cl)
		}
		// Best effort: whatever came before an error or the deadline.
		body, _ := io.ReadAll(io.LimitReader(br, n))
		if bytes.Contains(bytes.ToUpper(body), []byte("HTTPS")) || bytes.Contains(body, []byte("SSL")) {
			return &tlsPortError{status}
		}
	}
	return status
}

// tlsPortError is a server's 400 to plain HTTP on a port that speaks TLS.
type tlsPortError struct{ status *StatusError }

func (e *tlsPortError) Error() string {
	return e.status.Error() + ": this port speaks TLS, not plain HTTP"
}
func (e *tlsPortError) Unwrap() error { return e.status }

// upgradeFailure says what a failed upgrade means.
func (a *attempt) upgradeFailure(err error) (text error, hint string, permanent bool) {
	const useTLS = "write the address with wss://"
	var status *StatusError
	var tlsPort *tlsPortError
	var notHTTP *notHTTPError
	var badUpgrade *badUpgradeError
	switch {
	case errors.As(err, &tlsPort):
		return err, useTLS, false
	case errors.As(err, &status):
		hint, permanent = a.statusHint(status)
		return err, hint, permanent
	case errors.As(err, &badUpgrade):
		return err, "something between here and the server answers in its place, such as a cache or an inspecting proxy, or the address is not that of a WebSocket server", false
	case errors.As(err, &notHTTP):
		if notHTTP.looksLikeTLS() {
			return &described{"this port speaks TLS, not plain HTTP", err}, useTLS, false
		}
		return err, "check the address and the port: this is not a web server", false
	case errors.Is(err, io.EOF):
		hint = "something in between may forbid WebSocket, or the server is stopping"
		if !a.secure {
			hint = "if this port speaks TLS, " + useTLS
		}
		return &described{"the server closed the connection without an answer", err}, hint, false
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &described{"the server closed the connection in the middle of its reply", err}, "see the server's log", false
	}
	text, hint = ioFailure(err, theServer)
	return text, hint, false
}

func (a *attempt) statusHint(s *StatusError) (hint string, permanent bool) {
	switch s.Code {
	case 401:
		return "the server wants other credentials: check --token-file or --user", true
	case 403:
		return "the server, or a proxy on the way, forbids this: check the credentials, the client certificate and the path", true
	case 404:
		return "the path or the token is not accepted; the server answers both alike", true
	case 407:
		return "a proxy on the way wants authentication: name it with --proxy and USER:PASSWORD", true
	case 400, 405, 426, 501:
		return "the server does not take this for a WebSocket request: check the path, and that a proxy on the way lets upgrades through (wss:// usually passes where ws:// does not)", false
	case 408:
		return "the request reached the server too slowly: try again", false
	case 429:
		return "too many connections or attempts: wait before the next one", false
	case 500:
		return "the server has a problem: see its log", false
	case 502, 503, 504:
		return "a reverse proxy answers, but the server behind it is down, overloaded or not reachable: check that it is running", false
	}
	switch s.Code / 100 {
	case 2:
		return "the address answers as an ordinary web page: check the path, and that a proxy on the way lets upgrades through", false
	case 3:
		return "use the address that the server redirects to; a login page there means a captive portal: log in with a browser first", false
	}
	return "check the path and see the server's log", false
}
