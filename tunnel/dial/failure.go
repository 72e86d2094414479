package dial

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// The names of the peer in errors and hints.
const (
	theServer = "the server"
	theProxy  = "the proxy"
)

// timedOut reports whether err is a timeout of any kind.
func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || (errors.As(err, &ne) && ne.Timeout())
}

// isRemoteAlert reports whether the peer ended a connection by a TLS alert. In TLS 1.3 an alert about our
// certificate arrives after the handshake, with the first read.
func isRemoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// described replaces the text of an error; errors.Is and errors.As still find the error.
type described struct {
	text string
	err  error
}

func (e *described) Error() string { return e.text }
func (e *described) Unwrap() error { return e.err }
