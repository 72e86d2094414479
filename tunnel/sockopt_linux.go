package tunnel

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SetUserTimeout bounds how long data may stay unacknowledged, and keepalive
// probes unanswered, before the kernel ends nc (TCP_USER_TIMEOUT, RFC 5482).
// It reaches through TLS and other wrappers that have a NetConn method. A d
// of zero or less and a connection that is not TCP are left alone; on systems
// without the option it does nothing.
func SetUserTimeout(nc net.Conn, d time.Duration) error {
	tc := tcpConn(nc)
	if tc == nil || d <= 0 {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return userTimeout(raw, d)
}

func userTimeout(raw syscall.RawConn, d time.Duration) error {
	ms := max(d.Milliseconds(), 1)
	const maxInt32 = 1<<31 - 1
	var serr error
	err := raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(ms, maxInt32)))
	})
	if err == nil {
		err = serr
	}
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
