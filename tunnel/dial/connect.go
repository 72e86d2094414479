package dial

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"

	"adit/tunnel"
)

// connectHTTP asks the HTTP proxy at the other end of nc for a tunnel to target, a HOST:PORT (RFC 9110, section
// 9.3.6). The returned connection first reads bytes that the proxy sent right after its reply. The string is
// the reply's status, for the trace.
func connectHTTP(nc net.Conn, proxy *url.URL, target, userAgent string) (net.Conn, string, error) {
	var b bytes.Buffer
	// Some proxies refuse a request without a User-Agent, and some close the connection after the reply
	// if the client does not ask to keep it.
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Connection: keep-alive\r\nUser-Agent: %s\r\n", target, target, userAgent)
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n", basic)
	}
	b.WriteString("\r\n")
	br := bufio.NewReader(nc)
	r, err := exchange(nc, br, b.Bytes())
	if err != nil {
		return nil, "", err
	}
	status := &StatusError{Code: r.status, Reason: r.reason}
	if r.status/100 != 2 {
		status.Schemes = authSchemes(r.header["Proxy-Authenticate"])
		status.Detail = proxyDetail(r)
		return nil, "", status
	}
	return withBuffered(nc, br), status.Error(), nil
}

// proxyDetail returns what proxies say about a refusal outside the status line.
func proxyDetail(r *reply) string {
	var parts []string
	for _, name := range []string{"X-Squid-Error", "Proxy-Status"} {
		if v := r.header.Get(name); v != "" {
			parts = append(parts, printable(v))
		}
	}
	return strings.Join(parts, "; ")
}

// connectFailure returns the error and the hint for a failed CONNECT.
func connectFailure(err error, proxy *url.URL, target string) (text error, hint string, permanent bool) {
	var status *StatusError
	var notHTTP *notHTTPError
	switch {
	case errors.As(err, &status):
		hint, permanent = connectStatusHint(status, proxy, target)
		return fmt.Errorf("CONNECT %s: %w", target, err), hint, permanent
	case errors.As(err, &notHTTP):
		hint = "check the address: this is not an HTTP proxy"
		switch {
		case notHTTP.looksLikeTLS():
			hint = "the proxy speaks TLS: write its address with https://"
		case len(notHTTP.first) > 0 && (notHTTP.first[0] == 5 || notHTTP.first[0] == 0):
			hint = "this may be a SOCKS proxy: write its address with socks5://"
		}
	case errors.Is(err, io.EOF):
		err = &described{"the proxy closed the connection without an answer", err}
		hint = "check that this is an HTTP proxy and that it admits this host; a proxy that expects TLS needs https:// in its address"
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = &described{"the proxy closed the connection in the middle of its reply", err}
		hint = "see the proxy's log"
	default:
		err, hint = ioFailure(err, theProxy)
	}
	return fmt.Errorf("CONNECT %s: %w", target, err), hint, false
}

// connectStatusHint returns the hint for a reply that refuses a CONNECT.
func connectStatusHint(s *StatusError, proxy *url.URL, target string) (hint string, permanent bool) {
	_, port, _ := net.SplitHostPort(target)
	switch s.Code {
	case 407:
		offersBasic := len(s.Schemes) == 0 || slices.ContainsFunc(s.Schemes, func(n string) bool { return strings.EqualFold(n, "Basic") })
		switch {
		case !offersBasic:
			return "adit supports only Basic: run a local authenticating proxy, such as cntlm or px, and use that one", true
		case proxy.User != nil:
			return "the proxy rejected the user name or password: check them, and percent-encode special characters", true
		default:
			return "give the proxy's user name and password: " + proxy.Scheme + "://USER:PASSWORD@" + proxy.Host, true
		}
	case 403, 401:
		if port != "443" {
			return "the proxy's rules forbid this destination; many allow CONNECT to port 443 only, so let the server listen there", true
		}
		return "the proxy's rules forbid this destination: ask its administrator to allow CONNECT to " + target, true
	case 400, 404, 405, 501:
		return "check that this is a forward proxy that allows CONNECT, and not a web server", false
	case 511:
		return captivePortal, false
	case 502, 503, 504:
		return "the proxy is there but cannot reach " + target + ": check the name and port, and that the server is up", false
	case 429:
		return "the proxy asks to slow down: try again later", false
	}
	if s.Code/100 == 3 {
		return "the proxy redirects, as a captive portal does: log in with a browser first", false
	}
	return "see the proxy's log", false
}

const captivePortal = "a captive portal asks for a login before it opens the network: log in with a browser first"

// blockPage returns the error and the hint if the first bytes behind a proxy's 200 to CONNECT are those of a web
// page, which is the proxy's and not the server's.
func (a *attempt) blockPage(first []byte, err error) (text error, hint string, ok bool) {
	page := bytes.ToLower(bytes.TrimSpace(first))
	if a.proxy == nil || !bytes.HasPrefix(page, []byte("<")) && !(a.secure && bytes.HasPrefix(page, []byte("http"))) {
		return nil, "", false
	}
	return &described{"the proxy answered 200 to CONNECT and then sent a page of its own instead of the server's bytes", err},
		"the proxy blocks this destination: open https://" + a.hostHeader + " in a browser to read its page, and ask its administrator to allow CONNECT to " + a.target, true
}

// withBuffered returns a connection that first reads the bytes of nc that br has buffered, or nc itself if there
// are none.
func withBuffered(nc net.Conn, br *bufio.Reader) net.Conn {
	n := br.Buffered()
	if n == 0 {
		return nc
	}
	p, _ := br.Peek(n)
	return &prefixConn{Conn: nc, prefix: bytes.Clone(p)}
}

// A prefixConn reads prefix before it reads from the connection.
type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.prefix)
	if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
		c.prefix = nil
	}
	return n, nil
}

// NetConn returns the connection beneath, as that of crypto/tls does.
func (c *prefixConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending direction, down to TCP.
func (c *prefixConn) CloseWrite() error {
	tunnel.CloseWrite(c.Conn)
	return nil
}

// Close closes the socket at once, without waiting to send TLS alerts.
func (c *prefixConn) Close() error { return tunnel.CloseNow(c.Conn) }
