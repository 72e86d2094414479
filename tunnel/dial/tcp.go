package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"adit/tunnel"
)

// connect does the DNS and TCP steps, to the proxy or to the server.
func (a *attempt) connect(ctx context.Context) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(a.dialAddr)
	_, litErr := netip.ParseAddr(host)
	resolving := litErr != nil
	start := time.Now()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// net.Dialer calls this in the goroutine that called it.
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err != nil || !resolving {
				return // failures are reported below, with their meaning
			}
			resolving = false
			a.emit(Event{Step: StepDNS, Addr: host, Detail: addrList(info.Addrs), Elapsed: time.Since(start)})
			start = time.Now()
		},
	})
	nd := net.Dialer{Timeout: timeout(a.ConnectTimeout, DefaultConnectTimeout), Resolver: interruptible(a.Resolver), Control: tunnel.Unpaced}
	nc, err := nd.DialContext(traced, "tcp", a.dialAddr)
	if err == nil {
		if uerr := tunnel.SetUserTimeout(nc, livenessTimeout); uerr != nil {
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

// interruptible returns a resolver that works like r and lets go of its
// sockets and goroutines at once when a lookup is cancelled. Go's own resolver
// returns at once, too, but leaves them waiting for the name server.
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
			// The resolver ends ctx with each exchange, so that this runs
			// in any case and does not pile up.
			context.AfterFunc(ctx, func() { c.Close() })
		}
		return c, err
	}}
}

// addrList shows the first addresses of a name.
func addrList(addrs []net.IPAddr) string {
	const most = 8
	var list []string
	for i, ip := range addrs {
		if i == most {
			list = append(list, "…")
			break
		}
		list = append(list, ip.String())
	}
	return strings.Join(list, ", ")
}

// How texts and hints call the other side.
const (
	theServer = "the server"
	theProxy  = "the proxy"
)

// peer names whom a TCP connection was meant for.
func (a *attempt) peer() string {
	if a.proxy != nil {
		return theProxy
	}
	return theServer
}

func (a *attempt) dnsFailure(err error) (text error, hint string) {
	var de *net.DNSError
	if !errors.As(err, &de) {
		if timedOut(err) {
			return &described{"no answer from the name server in time", err}, "check that this host's resolver is reachable (/etc/resolv.conf)"
		}
		return err, "check this host's resolver settings (/etc/resolv.conf)"
	}
	at := ""
	if de.Server != "" {
		at = " " + printable(de.Server)
	}
	switch {
	case de.IsNotFound:
		hint = "check the spelling of the name; a name that only the proxy can resolve needs --proxy"
		if a.proxy != nil {
			hint = "check the spelling of the proxy's name"
		}
		return &described{"there is no such name", err}, hint
	case de.IsTimeout:
		return &described{"no answer from the name server" + at + " in time", err},
			"check that this host's resolver is reachable (/etc/resolv.conf)"
	default:
		return &described{"the name server" + at + " fails: " + printable(de.Err), err},
			"the name may be right: the resolver itself has a problem; try again later or use another one"
	}
}

func (a *attempt) tcpFailure(err error) (text error, hint string) {
	// net.OpError repeats the address that the Error has, but the IP
	// address of a name is worth telling.
	ip := ""
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil && op.Addr.String() != a.dialAddr {
		ip = " (" + op.Addr.String() + ")"
	}
	who := a.peer()
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &described{"connection refused" + ip, err}, "check that " + who + " is running and that the port is right"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		reason := "the network is unreachable"
		if errors.Is(err, syscall.EHOSTUNREACH) {
			reason = "the host is unreachable"
		}
		return &described{reason + ip, err}, "check this host's network connection and routes, and whether a firewall rejects the address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &described{"this host's firewall or security policy forbids the connection" + ip, err}, "allow outgoing connections to " + a.dialAddr
	case errors.Is(err, syscall.ECONNRESET):
		return &described{"connection reset" + ip, err}, "a firewall may reject the address"
	case timedOut(err):
		hint = "a firewall may drop the packets: try port 443, or an upstream proxy (--proxy)"
		if a.proxy != nil {
			hint = "check the proxy's address and port"
		}
		return &described{"no answer in time" + ip, err}, hint
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return err, "too many open files: raise the limit (ulimit -n, LimitNOFILE=)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return err, "this host has no address, or no free port, to connect from: check its network settings and how many connections it has"
	}
	return err, "check this host's network settings, and the address"
}

// ioFailure says what an error of an established connection means.
func ioFailure(err error, who string) (text error, hint string) {
	switch {
	case timedOut(err):
		return &described{"no answer from " + who + " in time", err}, "check that the address is right and that " + who + " is not overloaded"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &described{who + " reset the connection", err}, "a firewall may have cut it, or " + who + " does not speak this protocol on this port"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &described{who + " closed the connection", err}, "a firewall may have cut it, or " + who + " does not speak this protocol on this port"
	case errors.Is(err, errReplyTooLarge):
		return err, "check the address: no sane peer answers so"
	}
	return err, "check the address: " + who + " may not speak this protocol on this port"
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || (errors.As(err, &ne) && ne.Timeout())
}

// within runs f under the handshake timeout. nc is the socket below all layers.
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
