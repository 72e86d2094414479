package dial

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/url"
	"strconv"
)

// refusal returns the error for a reply other than 101. Of a 400 it reads the body, where servers say that the port
// expects TLS, or that they want a client certificate.
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
	case r.status == 400:
		const maxBody = 2048
		n := int64(maxBody)
		if cl, err := strconv.ParseInt(r.header.Get("Content-Length"), 10, 64); err == nil && cl >= 0 {
			n = min(n, cl)
		}
		// The body up to an error or the deadline is enough.
		body, _ := io.ReadAll(io.LimitReader(br, n))
		switch {
		case a.secure && bytes.Contains(body, []byte("SSL certificate")):
			// nginx: "No required SSL certificate was sent", "The SSL certificate error".
			return &clientCertificateError{status}
		case !a.secure && (bytes.Contains(bytes.ToUpper(body), []byte("HTTPS")) || bytes.Contains(body, []byte("SSL"))):
			return &tlsPortError{status}
		}
	}
	return status
}

// A tlsPortError reports a server's 400 to plain HTTP on a port that speaks TLS.
type tlsPortError struct{ status *StatusError }

func (e *tlsPortError) Error() string {
	return e.status.Error() + ": this port speaks TLS, not plain HTTP"
}
func (e *tlsPortError) Unwrap() error { return e.status }

// A clientCertificateError reports a front's 400 for a client certificate that is missing or not accepted.
type clientCertificateError struct{ status *StatusError }

func (e *clientCertificateError) Error() string {
	return e.status.Error() + ": a web server in front does not accept the connection without a valid client certificate"
}
func (e *clientCertificateError) Unwrap() error { return e.status }

// upgradeFailure returns the error and the hint for a failed upgrade.
func (a *attempt) upgradeFailure(err error) (text error, hint string, permanent bool) {
	const useTLS = "write the address with wss://"
	var status *StatusError
	var tlsPort *tlsPortError
	var certificate *clientCertificateError
	var notHTTP *notHTTPError
	var badUpgrade *badUpgradeError
	switch {
	case errors.As(err, &certificate):
		return err, "give a client certificate that the server accepts with --cert and --key", true
	case errors.As(err, &tlsPort):
		return err, useTLS, false
	case errors.As(err, &status):
		hint, permanent = a.statusHint(status)
		return err, hint, permanent
	case errors.As(err, &badUpgrade):
		return err, "a middlebox answers in its place, such as a cache or an inspecting proxy, or the address is not that of a WebSocket server", false
	case errors.As(err, &notHTTP):
		if text, hint, ok := a.blockPage(notHTTP.first, err); ok {
			return text, hint, false
		}
		if notHTTP.looksLikeTLS() {
			return &described{"this port speaks TLS, not plain HTTP", err}, useTLS, false
		}
		return err, "check the address and the port: this is not a web server", false
	case errors.Is(err, io.EOF):
		hint = "a middlebox may forbid WebSocket, or the server is stopping"
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

// clientCertificate reports whether the client may have authenticated by a certificate.
func (a *attempt) clientCertificate() bool {
	return a.TLS != nil && (a.TLS.GetClientCertificate != nil || len(a.TLS.Certificates) > 0)
}

// statusHint returns the hint for a reply other than 101.
func (a *attempt) statusHint(s *StatusError) (hint string, permanent bool) {
	switch {
	case s.Code == 511:
		return captivePortal, false
	case s.Code == 401 && a.authorization == "":
		return "the server asks for credentials and none were given: name the token's file with --token-file", true
	case (s.Code == 404 || s.Code/100 == 2) && a.requestURI == "/":
		return "the address asks for the path /: leave out the slash at its end for the default, /tunnel, or write the tunnel's path", s.Code == 404
	}
	switch s.Code {
	case 401:
		return "the server rejected the credentials: check --token-file or --user", true
	case 403:
		return "the server, or a proxy on the path, forbids this: check the credentials, the client certificate and the path", true
	case 404:
		hint = "the path or the token is not accepted; the server answers both alike"
		if a.authorization == "" && !a.clientCertificate() {
			hint += "; no token was given: name its file with --token-file"
		}
		return hint + "; a front that loses the upgrade gets the same answer (nginx needs proxy_http_version 1.1 and the headers Upgrade and Connection)", true
	case 407:
		return "a proxy on the path requires authentication: name it with --proxy and USER:PASSWORD", true
	case 400, 405, 426, 501:
		return "the server does not accept this as a WebSocket request: check the path, and that no proxy on the path removes the upgrade (wss:// usually passes where ws:// does not)", false
	case 408:
		return "the request reached the server too slowly: try again", false
	case 429:
		return "too many connections or attempts: wait before the next one", false
	case 500:
		return "the server failed: see its log", false
	case 502, 503, 504:
		return "a reverse proxy answers, but the server behind it is down, overloaded or not reachable: check that it is running", false
	}
	switch s.Code / 100 {
	case 2:
		return "the address answers as an ordinary web page: check the path, and that no proxy on the path removes the upgrade", false
	case 3:
		return "use the address that the server redirects to; a login page there means a captive portal: log in with a browser first", false
	}
	return "check the path and see the server's log", false
}

// A badUpgradeError reports a 101 reply that is not a valid answer (RFC 6455, section 4.1).
type badUpgradeError struct{ what string }

func (e *badUpgradeError) Error() string {
	return "101, but not a valid WebSocket handshake: " + e.what
}
