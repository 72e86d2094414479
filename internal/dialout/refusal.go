package dialout

import (
	"context"
	"errors"
	"net"
	"syscall"

	"adit/mux"
)

// Refusal is an error that determines what the peer is told.
type Refusal struct {
	Code   mux.Code
	Reason string // for the peer: one line without addresses of this side
	Err    error  // for the log of this side
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// Classify returns the code and the reason with which the peer is told why a
// target was not connected to. Errors of Destination.Dial are understood; for a
// *Refusal it is what that says.
func Classify(err error) (code mux.Code, reason string) {
	var refusal *Refusal
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refusal):
		return refusal.Code, refusal.Reason
	case errors.Is(err, syscall.ENOENT):
		return mux.NotFound, innermost(err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return mux.NotFound, "the name does not resolve"
	case errors.As(err, &dns) && dns.IsTimeout:
		return mux.Timeout, "the server's name resolution did not answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return mux.Refused, "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return mux.Unreachable, "no route to the target"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return mux.Busy, "no free file descriptors"
	case errors.Is(err, syscall.EAGAIN): // of a unix socket
		return mux.Busy, "the target's accept queue is full"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return mux.Timeout, "the target did not answer in time"
	case errors.Is(err, context.Canceled):
		return mux.Cancelled, ""
	case errors.As(err, &dns): // its text has the address of this side's name server
		return mux.Failed, "temporary failure in name resolution"
	}
	return mux.Failed, innermost(err)
}

// innermost returns the text of the innermost error, which has no addresses of
// this side.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
