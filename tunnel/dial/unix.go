package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
)

// unixPrefix begins a ConnectTo that is the path of a unix socket.
const unixPrefix = "unix:"

// fillSocket takes a unix socket from ConnectTo. It reports whether there is one.
func (a *attempt) fillSocket() (bool, *Error) {
	path, ok := strings.CutPrefix(a.ConnectTo, unixPrefix)
	switch {
	case !ok:
		return false, nil
	case path == "":
		return true, badConfiguration("write --connect-to unix:/run/front.sock", "connect to %q: the path is empty", a.ConnectTo)
	}
	a.socket = path
	return true, nil
}

// connectUnix does the step that takes the place of DNS and TCP for a unix socket.
func (a *attempt) connectUnix(ctx context.Context) (net.Conn, error) {
	start := time.Now()
	nd := net.Dialer{Timeout: timeout(a.ConnectTimeout, DefaultConnectTimeout)}
	nc, err := nd.DialContext(ctx, "unix", a.socket)
	if err == nil {
		a.emit(Event{Step: StepSocket, Addr: a.dialAddr, Detail: "connected", Elapsed: time.Since(start)})
		return nc, nil
	}
	hint := "check the path, and that the program that listens there is running"
	if errors.Is(err, fs.ErrPermission) {
		hint = "let the user that adit runs as write to the socket and enter its directories, for example through a group"
	}
	var cause syscall.Errno // net.OpError would repeat the path
	if errors.As(err, &cause) {
		err = fmt.Errorf("%w", cause)
	}
	return nil, a.fail(ctx, start, &Error{Step: StepSocket, Addr: a.dialAddr, Err: err, hint: hint})
}
