// Package dial opens WebSocket connections as a client: name resolution, TCP, an upstream proxy (HTTP
// CONNECT or SOCKS5), TLS, and the upgrade request. Each of these is a Step. An Error says which step
// failed, why, and what to do.
package dial

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"adit/tunnel/ws"
)

// Dial opens a WebSocket connection as a client (RFC 6455, section 4.1) to a ws or wss URL, directly
// or through an upstream proxy. Nil options mean the zero Options. ctx cancels the dial, at once and in any
// step, and has no effect on the connection later. The caller has to close the connection. Errors are *Error.
//
// If a connection fails after TCP, the other addresses of the name get their turn, except after a refusal of
// the credentials. After a reset or silence in the TLS handshake one last attempt has a small ClientHello; see
// Options.NoSmallHello.
func Dial(ctx context.Context, rawURL string, o *Options) (*ws.Conn, error) {
	if o == nil {
		o = new(Options)
	}
	a, err := o.plan(rawURL)
	if err != nil {
		return nil, err
	}
	c, err := a.dial(ctx)
	if err != nil {
		a.failed.Err = err
		a.emit(a.failed)
	}
	return c, err
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
			tc, err = a.startTLS(ctx, top, a.TLS, a.host)
			return err
		})
		if err != nil {
			return upgraded{}, a.failTLS(ctx, start, theServer, tc, err)
		}
		cs := tc.ConnectionState()
		detail := tlsDetail(&cs)
		if a.small {
			detail += ", small ClientHello without post-quantum key shares"
		}
		a.emit(Event{Step: StepTLS, Addr: a.target, Detail: detail, Elapsed: time.Since(start), TLS: &cs, SmallHello: a.small})
		top = tc
	}
	return a.upgrade(ctx, nc, top)
}
