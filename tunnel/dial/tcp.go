package dial

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"adit/tunnel"
)

// fallbackDelay is the head start of the family of the first address (RFC 8305, section 5).
const fallbackDelay = 300 * time.Millisecond

// resolve does the DNS step. It returns the addresses to connect to, the system's preferred one first.
func (a *attempt) resolve(ctx context.Context) ([]netip.AddrPort, error) {
	host, port, _ := net.SplitHostPort(a.dialAddr)
	n, _ := strconv.ParseUint(port, 10, 16) // checked by plan
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(n))}, nil
	}
	start := time.Now()
	limited, cancel := a.connectTimeout(ctx)
	defer cancel()
	ips, err := interruptible(a.Resolver).LookupNetIP(limited, "ip", host)
	if err != nil {
		cause, hint := a.dnsFailure(err)
		return nil, a.fail(ctx, start, &Error{Step: StepDNS, Addr: host, Err: cause, hint: hint})
	}
	a.emit(Event{Step: StepDNS, Addr: host, Detail: addrList(ips), Elapsed: time.Since(start)})
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(n))
	}
	return addrs, nil
}

// connectTimeout returns ctx with ConnectTimeout.
func (a *attempt) connectTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := timeout(a.ConnectTimeout, DefaultConnectTimeout); d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}

// connect does the TCP step, and returns the connection and which of addrs it leads to, or a zero address with an
// error.
func (a *attempt) connect(ctx context.Context, addrs []netip.AddrPort) (net.Conn, netip.AddrPort, error) {
	if a.socket != "" {
		nc, err := a.connectUnix(ctx)
		return nc, netip.AddrPort{}, err
	}
	start := time.Now()
	limited, cancel := a.connectTimeout(ctx)
	defer cancel()
	won := race(limited, addrs)
	if won.err == nil {
		if won.err = tunnel.SetUserTimeout(won.nc, userTimeout); won.err != nil {
			won.nc.Close()
		}
	}
	if won.err != nil {
		cause, hint := a.tcpFailure(won.err)
		return nil, netip.AddrPort{}, a.fail(ctx, start, &Error{Step: StepTCP, Addr: a.dialAddr, Err: cause, hint: hint})
	}
	a.emit(Event{Step: StepTCP, Addr: a.dialAddr, Detail: won.nc.LocalAddr().String() + " to " + won.nc.RemoteAddr().String(), Elapsed: time.Since(start)})
	return won.nc, won.addr, nil
}

// connected is the outcome of an attempt to connect.
type connected struct {
	nc   net.Conn
	addr netip.AddrPort
	err  error
}

// race connects to the addresses of the first one's family in turn, and from fallbackDelay on, or when those have
// failed, to the others too. The first connection wins. The error is that of the first address's family.
func race(ctx context.Context, addrs []netip.AddrPort) connected {
	var primary, fallback []netip.AddrPort
	for _, addr := range addrs {
		if addr.Addr().Is4() == addrs[0].Addr().Is4() {
			primary = append(primary, addr)
		} else {
			fallback = append(fallback, addr)
		}
	}
	if len(fallback) == 0 {
		return connectInTurn(ctx, primary)
	}
	ctx, cancel := context.WithCancel(ctx)
	first, second := make(chan connected, 1), make(chan connected, 1)
	go func() { first <- connectInTurn(ctx, primary) }()
	firstFailed := make(chan struct{})
	go func() {
		select {
		case <-time.After(fallbackDelay):
		case <-firstFailed:
		case <-ctx.Done():
		}
		second <- connectInTurn(ctx, fallback)
	}()
	var won, lost connected
	select {
	case won = <-first:
		if won.err == nil {
			cancel()
			lost = <-second
		} else {
			close(firstFailed)
			if lost = <-second; lost.err == nil {
				won, lost = lost, won
			}
		}
	case won = <-second:
		if won.err == nil {
			cancel()
			lost = <-first
		} else {
			won, lost = <-first, won
		}
	}
	cancel()
	if lost.err == nil {
		lost.nc.Close()
	}
	return won
}

// connectInTurn connects to the first of addrs that accepts. The error is that of the first. Each gets an even share of
// the time that is left, but at least 2 s.
func connectInTurn(ctx context.Context, addrs []netip.AddrPort) (first connected) {
	dialer := net.Dialer{Control: tunnel.Unpaced}
	for i, addr := range addrs {
		share, cancel := ctx, func() {}
		if deadline, ok := ctx.Deadline(); ok {
			share, cancel = context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(len(addrs)-i), 2*time.Second))
		}
		nc, err := dialer.DialContext(share, "tcp", addr.String())
		cancel()
		if err == nil {
			return connected{nc, addr, nil}
		}
		if i == 0 {
			first.err = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
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
func addrList(addrs []netip.Addr) string {
	const maxListed = 8
	var list []string
	for i, ip := range addrs {
		if i == maxListed {
			list = append(list, "…")
			break
		}
		list = append(list, ip.Unmap().String())
	}
	return strings.Join(list, ", ")
}
