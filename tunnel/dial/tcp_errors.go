package dial

import (
	"errors"
	"net"
	"syscall"
)

// peer returns the name of the peer of the TCP connection.
func (a *attempt) peer() string {
	if a.proxy != nil {
		return theProxy
	}
	return theServer
}

// dnsFailure returns the error and the hint for a failed name resolution.
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

// tcpFailure returns the error and the hint for a failed connection attempt.
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
