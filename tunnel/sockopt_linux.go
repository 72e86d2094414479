package tunnel

import (
	"fmt"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// SetUserTimeout bounds how long data may stay unacknowledged, and keepalive probes unanswered, before the kernel
// ends nc (TCP_USER_TIMEOUT, RFC 5482). It finds the TCP connection beneath TLS and other wrappers that have a
// NetConn method. It does nothing if d is zero or less, if there is no TCP connection, and on systems other than
// Linux.
func SetUserTimeout(nc net.Conn, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return setUserTimeout(nc, int(min(max(d.Milliseconds(), 1), math.MaxInt32)))
}

// ClearUserTimeout undoes SetUserTimeout. With a user timeout the kernel also ends a connection whose peer is
// alive but does not read.
func ClearUserTimeout(nc net.Conn) { _ = setUserTimeout(nc, 0) }

func setUserTimeout(nc net.Conn, milliseconds int) error {
	err := controlTCP(nc, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds)
	})
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

// controlTCP calls f for the socket of the TCP connection beneath nc, if there is one.
func controlTCP(nc net.Conn, f func(fd int) error) error {
	tc := tcpConn(nc)
	if tc == nil {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { failure = f(int(fd)) }); err != nil {
		return err
	}
	return failure
}
