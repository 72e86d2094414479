//go:build unix

package tunnel

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const canReadAhead = true

// fetch waits for the socket and reads as much as it has, up to a buffer. No
// buffer is held while it waits.
func (c *recordConn) fetch() error {
	if err := c.raw.Read(c.try); err != nil {
		return err
	}
	return c.fault
}

// readAhead reads without blocking, and reports whether it need not be tried
// again.
func (c *recordConn) readAhead(fd uintptr) bool {
	b := aheadBuffers.Get().(*aheadBuffer)
	n, err := unix.Read(int(fd), b[:])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), b[:])
	}
	c.fault = nil
	switch {
	case n > 0:
		c.ahead, c.start, c.end, c.more = b, 0, n, n == len(b)
		return true
	case err == unix.EAGAIN:
	case err != nil:
		c.fault = &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	default:
		c.fault = io.EOF
	}
	aheadBuffers.Put(b)
	return err != unix.EAGAIN
}
