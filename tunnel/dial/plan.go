package dial

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// plan checks the options, as the first step.
func (o *Options) plan(rawURL string) (*attempt, error) {
	start := time.Now()
	a := &attempt{Options: o, rawURL: rawURL, serverURL: redactRaw(rawURL)}
	serr := a.fill(rawURL)
	if serr != nil {
		if serr.Addr == "" {
			serr.Addr = a.serverURL
		}
		a.emit(Event{Step: serr.Step, Addr: serr.Addr, Elapsed: time.Since(start), Err: serr})
		return nil, serr
	}
	detail := "direct connection to " + a.dialAddr
	if a.proxy != nil {
		detail = "through the proxy " + redactURL(a.proxy) + " to " + a.target
	}
	a.emit(Event{Step: StepConfiguration, Addr: a.serverURL, Detail: detail, Elapsed: time.Since(start)})
	return a, nil
}

// badConfiguration makes the error of a configuration that cannot work.
func badConfiguration(hint, format string, args ...any) *Error {
	return &Error{Step: StepConfiguration, Err: fmt.Errorf(format, args...), hint: hint, Permanent: true}
}

func (a *attempt) fill(rawURL string) *Error {
	u, err := a.fillURL(rawURL)
	if err != nil {
		return err
	}
	for _, fill := range []func() *Error{a.fillTarget, a.fillHost, a.fillHeaders, func() *Error { return a.fillProxy(u) }} {
		if err := fill(); err != nil {
			return err
		}
	}
	return nil
}

// fillURL reads the server's URL. Errors do not quote parts of it that may be secret.
func (a *attempt) fillURL(rawURL string) (*url.URL, *Error) {
	bad := func(hint, format string, args ...any) (*url.URL, *Error) {
		return nil, badConfiguration(hint, format, args...)
	}
	const form = "write the address as wss://HOST[:PORT][/PATH]"
	u, err := url.Parse(rawURL)
	if !strings.Contains(rawURL, "://") {
		return bad(form, "no scheme, such as wss://, in the address")
	}
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) && !strings.ContainsAny(rawURL, "@?") {
			return bad(form, "not a URL: %w", ue.Err)
		}
		return bad(form, "not a URL")
	}
	a.serverURL = redactURL(u)
	switch u.Scheme {
	case "wss":
		a.secure, a.port = true, "443"
	case "ws":
		a.port = "80"
	case "https", "http":
		return bad("write "+map[string]string{"https": "wss", "http": "ws"}[u.Scheme]+":// instead of "+u.Scheme+"://", "the scheme is %q", u.Scheme)
	default:
		return bad(form, "the scheme is neither wss nor ws")
	}
	if u.User != nil {
		return bad("give credentials with --token-file or --user: other processes can see the address", "user name in the address")
	}
	if u.Hostname() == "" {
		return bad(form, "no host in the address")
	}
	if strings.Contains(rawURL, "#") { // RFC 6455, section 3
		return bad(form, "the address has a fragment (#)")
	}
	if port := u.Port(); port != "" {
		if err := checkPort(port); err != nil {
			return bad(form, "%w", err)
		}
		a.port = port
	}
	if a.host, err = asciiHost(u.Hostname()); err != nil {
		return bad("check the spelling of the host name", "%w", err)
	}
	a.requestURI = u.RequestURI()
	return u, nil
}

// fillTarget chooses the server's HOST:PORT.
func (a *attempt) fillTarget() *Error {
	isSocket, serr := a.fillSocket()
	if a.ConnectTo == "" || isSocket {
		a.target = net.JoinHostPort(a.host, a.port)
		return serr
	}
	host, port, err := net.SplitHostPort(a.ConnectTo)
	if err == nil && host == "" {
		err = errors.New("no host")
	}
	if err == nil {
		err = checkPort(port)
	}
	if err == nil {
		host, err = asciiHost(host)
	}
	if err != nil {
		return badConfiguration("write --connect-to as HOST:PORT or unix:PATH", "connect to %q: %w", printable(a.ConnectTo), err)
	}
	a.target = net.JoinHostPort(host, port)
	return nil
}

// fillHost chooses the Host header.
func (a *attempt) fillHost() *Error {
	if a.hostHeader = a.Host; a.hostHeader == "" {
		// As browsers do, leave out the default port, and the zone of an IPv6 address, which has a
		// meaning on this machine only.
		name, _, _ := strings.Cut(a.host, "%")
		port := a.port
		if a.secure && port == "443" || !a.secure && port == "80" {
			port = ""
		}
		a.hostHeader = hostPort(name, port)
	} else if !httpguts.ValidHostHeader(a.Host) || strings.ContainsAny(a.Host, " /@") {
		return badConfiguration("write --host as HOST or HOST:PORT", "%q cannot be a Host header", printable(a.Host))
	}
	return nil
}

// fillProxy chooses the proxy, and with it the address for TCP.
func (a *attempt) fillProxy(u *url.URL) (serr *Error) {
	if a.socket != "" {
		a.dialAddr = unixPrefix + a.socket
		return nil
	}
	a.dialAddr = a.target
	if a.Proxy == nil {
		return nil
	}
	const hint = "check the proxy settings"
	var err error
	if a.proxy, err = a.Proxy(u); err != nil {
		return badConfiguration(hint, "choose a proxy: %w", err)
	}
	if a.proxy == nil {
		return nil
	}
	if err = checkProxyURL(a.proxy); err == nil {
		a.dialAddr, err = proxyAddr(a.proxy)
	}
	if err != nil {
		return badConfiguration(hint, "%w", err)
	}
	return nil
}

// fillHeaders checks the header fields that the caller adds to the requests, and gets the credentials.
// Values may be secret: errors do not quote them.
func (a *attempt) fillHeaders() *Error {
	bad := badConfiguration
	for name, values := range a.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return bad("write --header as 'NAME: VALUE'", "%q cannot be a header name", printable(name))
		}
		switch lower := strings.ToLower(name); {
		case lower == "host":
			return bad("use --host", "the Host header has its own option")
		case lower == "upgrade", lower == "connection", lower == "content-length", lower == "transfer-encoding",
			strings.HasPrefix(lower, "sec-websocket-"):
			return bad("remove this --header", "the header %s belongs to the handshake", http.CanonicalHeaderKey(name))
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return bad("remove control characters", "the value of the header %s is not valid", http.CanonicalHeaderKey(name))
			}
		}
	}
	if a.Authorization == nil {
		return nil
	}
	var err error
	a.authorization, err = a.Authorization()
	switch {
	case err != nil:
		return &Error{Step: StepAuthentication, Err: fmt.Errorf("get the credentials: %w", err), hint: "check that the token or password can be read"}
	case !httpguts.ValidHeaderFieldValue(a.authorization):
		return &Error{Step: StepAuthentication, Err: errors.New("the credentials contain control characters"), hint: "check the file or variable that holds the token", Permanent: true}
	}
	return nil
}

// userAgent returns the User-Agent of all requests.
func (a *attempt) userAgent() string {
	return cmp.Or(a.Header.Get("User-Agent"), DefaultUserAgent)
}
