package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"
)

// connectSOCKS asks the SOCKS5 proxy at the other end of nc for a connection to target, a HOST:PORT (RFC 1928,
// RFC 1929). The proxy resolves the name. connectSOCKS reads nothing after the proxy's reply. ctx bounds the
// exchange.
func connectSOCKS(ctx context.Context, nc net.Conn, u *url.URL, target string) error {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", u.Host, auth, existing{nc})
	if err != nil {
		return err
	}
	_, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	return err
}

// existing is a dialer for package proxy that returns nc, which is connected already.
type existing struct{ nc net.Conn }

func (c existing) Dial(string, string) (net.Conn, error) { return c.nc, nil }
func (c existing) DialContext(context.Context, string, string) (net.Conn, error) {
	return c.nc, nil
}

// socksFailure returns the error and the hint for a failed SOCKS5 exchange. Package proxy has no error types for
// the reply codes, only fixed texts.
func socksFailure(err error, u *url.URL, target string) (text error, hint string, permanent bool) {
	var op *net.OpError
	cause := err
	if errors.As(err, &op) && op.Op == "socks connect" {
		cause = op.Err // without the addresses, which the Error has
	}
	msg := cause.Error()
	reason, refused := strings.CutPrefix(msg, "unknown error ")
	switch {
	case refused:
		cause = &described{"the proxy answered: " + reason, err}
		switch reason {
		case "connection not allowed by ruleset":
			hint, permanent = "the proxy's rules forbid this destination: ask its administrator to allow "+target, true
		case "network unreachable", "host unreachable", "TTL expired":
			hint = "the proxy is there but cannot reach " + target + ": check the name, and that the proxy can resolve it"
		case "connection refused":
			hint = "the proxy reached the host but nothing listens on " + target + ": check that the server is up, and its port"
		default:
			hint = "the proxy is there but did not connect to " + target + ": see the proxy's log"
		}
	case msg == "username/password authentication failed":
		cause = &described{"the proxy rejected the user name or password", err}
		hint, permanent = "check the user name and password, and percent-encode special characters", true
	case msg == "no acceptable authentication methods":
		if u.User == nil {
			cause = &described{"the proxy requires authentication", err}
			hint = "give the proxy's user name and password: " + u.Scheme + "://USER:PASSWORD@" + u.Host
		} else {
			cause = &described{"the proxy accepts neither a password nor no authentication", err}
			hint = "adit supports only a user name and password: run a local proxy that authenticates as your proxy requires"
		}
		permanent = true
	case msg == "unexpected protocol version 72": // 'H', of "HTTP/1.1 400"
		cause = &described{"the reply is not SOCKS5 but HTTP", err}
		hint = "this is an HTTP proxy or a web server: write its address with http://"
	case strings.HasPrefix(msg, "unexpected protocol version"):
		cause = &described{"the reply is not SOCKS5 (" + msg + ")", err}
		hint = "check the address: this is not a SOCKS5 proxy"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		cause = &described{"the proxy closed the connection during the SOCKS5 exchange", err}
		hint = "check that this is a SOCKS5 proxy and that it admits this host"
	default:
		cause, hint = ioFailure(cause, theProxy)
	}
	return fmt.Errorf("SOCKS5 connect to %s: %w", target, cause), hint, permanent
}
