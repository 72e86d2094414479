package dial

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"
)

// An attempt is one Dial: the options, and what follows from them and the URL.
type attempt struct {
	*Options
	rawURL        string // as Dial got it
	secure        bool
	serverURL     string // for errors: without user information and query
	requestURI    string
	host          string // of the URL, in ASCII, without brackets
	port          string // of the URL, or its scheme's
	hostHeader    string
	target        string   // HOST:PORT of the server
	proxy         *url.URL // nil: none
	dialAddr      string   // HOST:PORT for TCP: the proxy's or target; or unix:PATH
	socket        string   // path of the unix socket to connect to; "": TCP
	authorization string
	peerIP        string // of the TCP connection, for errors; "" if dialAddr has it
	failed        Event  // of the last failure, not yet reported
	small         bool   // send a ClientHello without post-quantum key shares
	helloLost     bool   // the last handshake ended by a reset or silence
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

// fail returns the error of a step, and notes its event. Of a canceled dial the cause is always the cancellation,
// whatever error the interrupted operation returned.
func (a *attempt) fail(ctx context.Context, start time.Time, serr *Error) error {
	if cause := ended(ctx); cause != nil {
		*serr = Error{Step: serr.Step, Addr: serr.Addr, Err: cause}
	} else if a.peerIP != "" {
		serr.Err = &described{serr.Err.Error() + " (" + a.peerIP + ")", serr.Err}
	}
	a.failed = Event{Step: serr.Step, Addr: serr.Addr, Elapsed: time.Since(start), Err: serr}
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
