// Package dial opens WebSocket connections as a client: name resolution, TCP, an upstream proxy (HTTP
// CONNECT or SOCKS5), TLS, and the upgrade request. Each of these is a Step. An Error says which step
// failed, why, and what to do.
package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"adit/tunnel/ws"
)

// The defaults of Options.
const (
	DefaultConnectTimeout   = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultUserAgent        = "Mozilla/5.0"
)

// userTimeout is how long data may stay unacknowledged before the kernel ends the connection
// (TCP_USER_TIMEOUT, where the system has it).
const userTimeout = 45 * time.Second

// Options says how Dial connects. The zero value is ready to use: a direct connection. The fields
// must not change while Dial runs; several Dials may use the same Options at the same time.
type Options struct {
	// Proxy returns the upstream proxy for a URL; nil, or a nil result, means none. FixedProxy and
	// ProxyFromValues make such functions. The proxy is an http, https, socks5 or socks5h URL, with
	// optional user information.
	Proxy func(*url.URL) (*url.URL, error)
	// ProxyTLS configures the TLS connection to an https proxy. It is cloned; an empty ServerName
	// becomes the proxy's host. ALPN is always http/1.1. May be nil.
	ProxyTLS *tls.Config
	// TLS configures the connection to a wss server, in the same way.
	TLS *tls.Config
	// Resolver resolves the name of the host that Dial connects to, the server or the proxy. Nil
	// means net.DefaultResolver.
	Resolver *net.Resolver

	// Host replaces the host in the Host header of the upgrade request.
	Host string
	// ConnectTo is the HOST:PORT to connect to, or to ask the proxy for, instead of the URL's. It changes
	// neither the Host header nor the name that the server's certificate is checked for.
	ConnectTo string
	// Header has further fields for the upgrade request. Those that belong to the handshake are an error.
	// User-Agent replaces DefaultUserAgent, also in the CONNECT to a proxy.
	Header http.Header
	// Authorization returns the value of the Authorization header. It is called once for each Dial. Nil
	// or an empty value sends none.
	Authorization func() (string, error)

	// ConnectTimeout bounds name resolution and TCP together, over all addresses of a name. 0 means
	// DefaultConnectTimeout, negative no bound.
	ConnectTimeout time.Duration
	// HandshakeTimeout bounds the exchange with the proxy, the TLS handshake and the upgrade, each by
	// itself. 0 means DefaultHandshakeTimeout, negative no bound.
	HandshakeTimeout time.Duration

	// Conn tunes the connection that Dial returns.
	Conn ws.Options

	// Trace is called when a step has ended, in order, by the goroutine that called Dial. May be nil.
	Trace func(Event)
}

// An Event describes a step that has ended.
type Event struct {
	Step Step
	// Addr is that of Error.
	Addr string
	// Detail is one line for the user about a success: the addresses of a name, the proxy's status line,
	// the TLS version and the certificate's issuer.
	Detail  string
	Elapsed time.Duration
	// TLS is set for a successful TLS step, and for a successful proxy step over TLS.
	TLS *tls.ConnectionState
	// Err is nil, or the *Error that Dial is going to return.
	Err error
}

// Dial opens a WebSocket connection as a client (RFC 6455, section 4.1) to a ws or wss URL, directly
// or through an upstream proxy. Nil options mean the zero Options. ctx cancels the dial, at once and in any
// step, and has no effect on the connection later. The caller has to close the connection. Errors are *Error.
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

	// From here on closing the socket interrupts the step that is under way.
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

// upgraded is a connection after the upgrade, with the reader that may hold the first frames.
type upgraded struct {
	nc net.Conn
	br *bufio.Reader
}

// handshakes does the proxy, TLS and upgrade steps over the socket nc. It does not close nc.
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

// within calls f with the handshake timeout. nc is the socket beneath all layers.
func (a *attempt) within(ctx context.Context, nc net.Conn, f func(context.Context) error) error {
	d := timeout(a.HandshakeTimeout, DefaultHandshakeTimeout)
	if d == 0 {
		return f(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := nc.SetDeadline(deadline); err != nil {
		return fmt.Errorf("set the deadline: %w", err)
	}
	if err := f(ctx); err != nil {
		return err
	}
	return nc.SetDeadline(time.Time{})
}

// timeout returns the bound that an option means, 0 for none: def for 0, none for a negative value.
func timeout(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// emit reports an event.
func (a *attempt) emit(e Event) {
	if a.Trace != nil {
		a.Trace(e)
	}
}

// fail reports and returns the error of a step. Of a canceled dial the cause is always the cancellation,
// whatever error the interrupted operation returned.
func (a *attempt) fail(ctx context.Context, start time.Time, serr *Error) error {
	if cause := ended(ctx); cause != nil {
		*serr = Error{Step: serr.Step, Addr: serr.Addr, Err: cause}
	}
	a.emit(Event{Step: serr.Step, Addr: serr.Addr, Elapsed: time.Since(start), Err: serr})
	return serr
}

// ended returns why ctx is done, or nil if it is not. A socket's deadline that was taken from ctx may pass a
// moment before ctx is done.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
