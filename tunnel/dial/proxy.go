package dial

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// throughProxy asks the proxy at the other end of nc for a connection to the target, which it returns.
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
			tc, err = a.startTLS(ctx, nc, a.ProxyTLS, a.proxy.Hostname())
			return err
		})
		if err != nil {
			return nil, a.failTLS(ctx, start, theProxy, tc, err)
		}
		cs := tc.ConnectionState()
		ev.TLS, ev.SmallHello = &cs, a.small
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
