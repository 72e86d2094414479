package dial

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"time"

	"adit/tunnel"
)

// connect does the DNS and TCP steps, to the proxy or to the server. net.Dialer tries the addresses of both
// families (happy eyeballs, RFC 6555).
func (a *attempt) connect(ctx context.Context) (net.Conn, error) {
	if a.socket != "" {
		return a.connectUnix(ctx)
	}
	host, _, _ := net.SplitHostPort(a.dialAddr)
	_, litErr := netip.ParseAddr(host)
	resolving := litErr != nil
	start := time.Now()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// net.Dialer calls this in the goroutine that called it.
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err != nil || !resolving {
				return // failures are reported below
			}
			resolving = false
			a.emit(Event{Step: StepDNS, Addr: host, Detail: addrList(info.Addrs), Elapsed: time.Since(start)})
			start = time.Now()
		},
	})
	nd := net.Dialer{Timeout: timeout(a.ConnectTimeout, DefaultConnectTimeout), Resolver: interruptible(a.Resolver), Control: tunnel.Unpaced}
	nc, err := nd.DialContext(traced, "tcp", a.dialAddr)
	if err == nil {
		if uerr := tunnel.SetUserTimeout(nc, userTimeout); uerr != nil {
			nc.Close()
			err = uerr
		}
	}
	if err == nil {
		a.emit(Event{Step: StepTCP, Addr: a.dialAddr, Detail: nc.LocalAddr().String() + " to " + nc.RemoteAddr().String(), Elapsed: time.Since(start)})
		return nc, nil
	}
	if resolving {
		cause, hint := a.dnsFailure(err)
		return nil, a.fail(ctx, start, &Error{Step: StepDNS, Addr: host, Err: cause, hint: hint})
	}
	cause, hint := a.tcpFailure(err)
	return nil, a.fail(ctx, start, &Error{Step: StepTCP, Addr: a.dialAddr, Err: cause, hint: hint})
}

// interruptible returns a resolver that works like r, but closes its sockets at once when a lookup is
// canceled. Go's own resolver returns at once, too, but leaves sockets and goroutines that wait for the name
// server.
func interruptible(r *net.Resolver) *net.Resolver {
	if r == nil {
		r = net.DefaultResolver
	}
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil {
			// The resolver cancels ctx after each exchange, so that these functions do not accumulate.
			context.AfterFunc(ctx, func() { c.Close() })
		}
		return c, err
	}}
}

// addrList lists the first addresses of a name.
func addrList(addrs []net.IPAddr) string {
	const maxListed = 8
	var list []string
	for i, ip := range addrs {
		if i == maxListed {
			list = append(list, "…")
			break
		}
		list = append(list, ip.String())
	}
	return strings.Join(list, ", ")
}
