// Package dial opens WebSocket connections as a client: name resolution, TCP, an upstream proxy
// (HTTP CONNECT or SOCKS5), TLS, and the upgrade request. Each is a Step, and an Error says which of
// them failed, why, and what to do.
package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"

	"adit/tunnel/ws"
)

// The defaults of Options.
const (
	DefaultConnectTimeout   = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultUserAgent        = "Mozilla/5.0"
)

// livenessTimeout is how long the kernel lets sent data go without an
// acknowledgement (TCP_USER_TIMEOUT, where the system has it).
const livenessTimeout = 45 * time.Second

// Options says how Dial connects. The zero value is ready to use: a direct connection. The fields
// must not change while Dial runs; several Dials may use the same Options at the same time.
type Options struct {
	// Proxy chooses the proxy for a URL; nil, or a nil result, means none.
	// See FixedProxy and ProxyFromValues. Accepted are http, https, socks5
	// and socks5h URLs, with optional user information.
	Proxy func(*url.URL) (*url.URL, error)
	// ProxyTLS configures the TLS connection to an https proxy. It is
	// cloned; an empty ServerName becomes the proxy's host. ALPN is always
	// http/1.1. May be nil.
	ProxyTLS *tls.Config
	// TLS configures the connection to a wss server, in the same way.
	TLS *tls.Config
	// Resolver looks names up when Dial connects to a named host itself.
	// Nil means net.DefaultResolver.
	Resolver *net.Resolver

	// Host replaces the host in the Host header of the upgrade request.
	Host string
	// ConnectTo is the HOST:PORT to connect to, or to ask the proxy for,
	// instead of the URL's. It changes neither the Host header nor the name
	// that the server's certificate is checked for.
	ConnectTo string
	// Header has further fields for the upgrade request. Those of the
	// handshake itself are refused. User-Agent replaces DefaultUserAgent, in
	// the CONNECT to a proxy, too.
	Header http.Header
	// Authorization gives the value of the Authorization header, once for
	// each Dial. Nil or an empty value sends none.
	Authorization func() (string, error)

	// ConnectTimeout bounds the name resolution and the TCP connection
	// together, over all addresses of a name. 0 means
	// DefaultConnectTimeout, negative no bound.
	ConnectTimeout time.Duration
	// HandshakeTimeout bounds the conversation with the proxy, the TLS
	// handshake and the upgrade, each by itself. 0 means
	// DefaultHandshakeTimeout, negative no bound.
	HandshakeTimeout time.Duration

	// Conn tunes the connection that Dial returns.
	Conn ws.Options

	// Trace, if not nil, is called for each step that ends, in order, from
	// the goroutine that called Dial.
	Trace func(Event)
}

// Event tells of a finished step of a dial.
type Event struct {
	Step Step
	// Addr is as in Error.
	Addr string
	// Detail is one readable line about a success: the addresses of a name,
	// the proxy's status line, the TLS version and the certificate's issuer.
	Detail  string
	Elapsed time.Duration
	// TLS is set for a finished TLS step, and for the proxy step when the
	// proxy is spoken to in TLS.
	TLS *tls.ConnectionState
	// Err is nil, or the *Error that Dial is about to return.
	Err error
}

// Dial opens a WebSocket connection as a client (RFC 6455, section 4.1) to a ws or wss URL, directly
// or through an upstream proxy. Nil options are the zero Options. The result is the caller's to close; its
// life is independent of ctx, which cancels the dial only: at once, in any
// step. Errors are *Error.
func Dial(ctx context.Context, rawURL string, o *Options) (*ws.Conn, error) {
	if o == nil {
		o = new(Options)
	}
	a, err := o.plan(rawURL)
	if err != nil {
		return nil, err
	}
	nc, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}

	// From here on closing the socket interrupts whatever step is at work.
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		nc.Close()
		close(closed)
	})
	up, err := a.handshakes(ctx, nc)
	if !stop() {
		<-closed
		if err == nil {
			err = &Error{Step: StepUpgrade, Addr: a.serverURL, Err: context.Cause(ctx)}
		}
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return ws.Client(up.nc, up.br, a.secure, o.Conn), nil
}

// attempt is one Dial: what was asked for, checked and filled in.
type attempt struct {
	*Options
	secure        bool
	serverURL     string // for errors: without user information and query
	requestURI    string
	host          string // of the URL, ASCII, without brackets
	hostHeader    string
	target        string // HOST:PORT of the server
	proxy         *url.URL
	dialAddr      string // HOST:PORT for TCP: the proxy's or the target
	authorization string
}

// plan checks the configuration and reports it as the first step.
func (o *Options) plan(rawURL string) (*attempt, error) {
	start := time.Now()
	a := &attempt{Options: o, serverURL: redactRaw(rawURL)}
	serr := a.fill(rawURL)
	if serr != nil {
		if serr.Addr == "" {
			serr.Addr = a.serverURL
		}
		a.emit(Event{Step: serr.Step, Addr: serr.Addr, Elapsed: time.Since(start), Err: serr})
		return nil, serr
	}
	detail := "direct connection to " + a.target
	if a.proxy != nil {
		detail = "through the proxy " + redactURL(a.proxy) + " to " + a.target
	}
	a.emit(Event{Step: StepConfiguration, Addr: a.serverURL, Detail: detail, Elapsed: time.Since(start)})
	return a, nil
}

func (a *attempt) fill(rawURL string) *Error {
	o := a.Options
	bad := func(hint, format string, args ...any) *Error {
		return &Error{Step: StepConfiguration, Err: fmt.Errorf(format, args...), hint: hint, Permanent: true}
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
		return bad(form, "not a URL") // what is wrong may be a secret
	}
	a.serverURL = redactURL(u)
	switch u.Scheme {
	case "wss":
		a.secure = true
	case "ws":
	case "https", "http":
		return bad("write "+map[string]string{"https": "wss", "http": "ws"}[u.Scheme]+":// instead of "+u.Scheme+"://", "the scheme is %q", u.Scheme)
	default:
		return bad(form, "the scheme is neither wss nor ws")
	}
	if u.User != nil {
		return bad("give credentials by --token-file or --user: an address is seen by everyone", "user name in the address")
	}
	if u.Hostname() == "" {
		return bad(form, "no host in the address")
	}
	if strings.Contains(rawURL, "#") { // RFC 6455, section 3
		return bad(form, "the address has a fragment (#)")
	}
	port := u.Port()
	if port == "" {
		port = "80"
		if a.secure {
			port = "443"
		}
	} else if err := checkPort(port); err != nil {
		return bad(form, "%w", err)
	}
	if a.host, err = asciiHost(u.Hostname()); err != nil {
		return bad("check the spelling of the host name", "%w", err)
	}
	a.requestURI = u.RequestURI()
	a.target = net.JoinHostPort(a.host, port)
	if o.ConnectTo != "" {
		host, port, err := net.SplitHostPort(o.ConnectTo)
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
			return bad("write --connect-to as HOST:PORT", "connect to %q: %w", printable(o.ConnectTo), err)
		}
		a.target = net.JoinHostPort(host, port)
	}

	a.hostHeader = o.Host
	if a.hostHeader == "" {
		// The default port is left out, as browsers do; an IPv6 zone has a
		// meaning on this machine only.
		name, _, _ := strings.Cut(a.host, "%")
		shown := port
		if (a.secure && port == "443") || (!a.secure && port == "80") {
			shown = ""
		}
		a.hostHeader = hostPort(name, shown)
	} else if !httpguts.ValidHostHeader(o.Host) || strings.ContainsAny(o.Host, " /@") {
		return bad("write --host as HOST or HOST:PORT", "%q cannot be a Host header", printable(o.Host))
	}
	if serr := a.fillHeaders(bad); serr != nil {
		return serr
	}

	a.dialAddr = a.target
	if o.Proxy == nil {
		return nil
	}
	a.proxy, err = o.Proxy(u)
	if err != nil {
		return bad("check the proxy settings", "choose a proxy: %w", err)
	}
	if a.proxy == nil {
		return nil
	}
	if err = checkProxyURL(a.proxy); err == nil {
		a.dialAddr, err = proxyAddr(a.proxy)
	}
	if err != nil {
		return bad("check the proxy settings", "%w", err)
	}
	return nil
}

// fillHeaders checks and fills what the caller adds to the requests. Values
// may be secret and stay out of the errors.
func (a *attempt) fillHeaders(bad func(hint, format string, args ...any) *Error) *Error {
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

// userAgent is what the requests say of their sender.
func (a *attempt) userAgent() string {
	return cmp.Or(a.Header.Get("User-Agent"), DefaultUserAgent)
}

// asciiHost returns the form of a host that goes on the wire.
func asciiHost(host string) (string, error) {
	for i := range len(host) {
		if host[i] <= ' ' || host[i] == 0x7f || host[i] == '/' || host[i] == '\\' {
			return "", fmt.Errorf("%q is not a host name", printable(host))
		}
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", fmt.Errorf("%q is not a host name: %w", printable(host), err)
			}
			return a, nil
		}
	}
	return host, nil
}

func (a *attempt) emit(e Event) {
	if a.Trace != nil {
		a.Trace(e)
	}
}

// fail makes the error of a step and reports it. A cancelled dial always says
// so, whatever the interrupted operation made of it.
func (a *attempt) fail(ctx context.Context, start time.Time, serr *Error) error {
	if cause := ended(ctx); cause != nil {
		*serr = Error{Step: serr.Step, Addr: serr.Addr, Err: cause}
	}
	a.emit(Event{Step: serr.Step, Addr: serr.Addr, Elapsed: time.Since(start), Err: serr})
	return serr
}

// ended tells why ctx is over, nil if it is not. A socket's deadline taken
// from ctx may pass a moment before ctx itself has noticed.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// timeout gives an option's meaning: the default for 0, and 0, which means
// none, for a negative value.
func timeout(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}
