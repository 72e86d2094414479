package dial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"adit/tunnel/ws"
)

// A failure is one that other addresses may not have.
type failure struct {
	*Error
	addr netip.AddrPort // zero before TCP has succeeded
}

// dial resolves the name and gives its addresses their turn until one leads to a WebSocket.
func (a *attempt) dial(ctx context.Context) (*ws.Conn, error) {
	if a.socket != "" {
		c, _, err := a.dialOne(ctx, nil, false)
		return c, err
	}
	addrs, err := a.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var failures []failure
	var lost netip.AddrPort // its TLS handshake ended by a reset or silence
	small := false
	first, later := a.Addresses.split(addrs)
	for {
		if len(first) == 0 {
			first, later = later, nil
		}
		if len(first) == 0 {
			if small || !lost.IsValid() || a.NoSmallHello {
				return nil, joinFailures(failures)
			}
			small, first = true, []netip.AddrPort{lost}
		}
		if len(failures) > 0 {
			a.failed.Retry, a.failed.SmallHello = true, small
			a.emit(a.failed)
		}
		c, addr, err := a.dialOne(ctx, first, small)
		if err == nil {
			return c, nil
		}
		var serr *Error
		errors.As(err, &serr) // always
		failures = append(failures, failure{serr, addr})
		if ended(ctx) != nil {
			return nil, err
		}
		if a.helloLost && !a.small && !lost.IsValid() {
			lost = addr
		}
		switch {
		case !addr.IsValid():
			first = nil // none accepts a connection
		case !a.addressAtFault(serr):
			first, later = nil, nil
		default:
			a.Addresses.avoid(addr)
			first = slices.DeleteFunc(slices.Clone(first), func(other netip.AddrPort) bool { return other == addr })
		}
	}
}

// dialOne makes a WebSocket by the first of addrs that accepts a connection. addr is that address, also with an
// error, or zero if none does.
func (a *attempt) dialOne(ctx context.Context, addrs []netip.AddrPort, small bool) (c *ws.Conn, addr netip.AddrPort, err error) {
	a.peerIP, a.helloLost = "", false
	nc, addr, err := a.connect(ctx, addrs)
	if err != nil {
		return nil, addr, err
	}
	a.small = small || !a.NoSmallHello && a.Addresses.needsSmallHello(addr)
	if addr.IsValid() && addr.String() != a.dialAddr {
		a.peerIP = addr.Addr().String()
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
			err = a.fail(ctx, time.Now(), &Error{Step: StepUpgrade, Addr: a.serverURL, Err: context.Cause(ctx)})
		}
	}
	if err != nil {
		nc.Close()
		return nil, addr, err
	}
	a.Addresses.succeeded(a.rawURL, addr, a.small)
	return ws.Client(up.nc, up.br, a.secure, a.Conn), addr, nil
}

// addressAtFault reports whether a failure after TCP may be that of one address of the name: not if the peer
// itself has judged the request. Behind a proxy that has answered only silence counts, which may be that of the
// path to the proxy.
func (a *attempt) addressAtFault(err *Error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return a.proxy == nil && !slices.Contains([]int{401, 403, 407, 429}, status.Code)
	}
	return a.proxy == nil || timedOut(err) || err.Step == StepProxy && !err.Permanent
}

// joinFailures returns the last failure that came after TCP, or else the first one, with the others in its text.
// It is permanent if all are.
func joinFailures(failures []failure) *Error {
	main := 0
	for i, f := range failures {
		if f.addr.IsValid() {
			main = i
		}
	}
	joined := *failures[main].Error
	all := &joinedError{text: joined.Err.Error(), errs: []error{joined.Err}}
	for i, f := range failures {
		joined.Permanent = joined.Permanent && f.Permanent
		if i != main {
			all.text += fmt.Sprintf("; %s: %v", f.Step, f.Err)
			all.errs = append(all.errs, f.Err)
		}
	}
	if len(failures) > 1 {
		joined.Err = all
	}
	return &joined
}

// joinedError has several causes and a text of its own.
type joinedError struct {
	text string
	errs []error
}

func (e *joinedError) Error() string   { return e.text }
func (e *joinedError) Unwrap() []error { return e.errs }
