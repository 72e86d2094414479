//go:build unix

package tunnel

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// WaitReadable blocks until there are bytes, an end, or an error to read.
func (s *Socket) WaitReadable() error {
	if s.raw == nil {
		return nil
	}
	var one [1]byte
	var n int
	var failure error
	err := s.raw.Read(func(fd uintptr) bool {
		n, failure = peekNow(fd, one[:])
		return failure != unix.EAGAIN
	})
	switch {
	case err != nil:
		return err
	case failure != nil:
		// Reported here or nowhere: the peek has taken it from the socket, and
		// a Read would now find a clean end.
		return socketError(s.Conn, "read", os.NewSyscallError("recvfrom", failure))
	case n == 0:
		return io.EOF
	}
	return nil
}

// Read reads data. A reset is reported once by the system, and perhaps to a
// Write at the same time: what then looks like an end is none.
func (s *Socket) Read(p []byte) (int, error) {
	n, err := s.bytes.Read(p)
	if err == io.EOF && s.wasReset() {
		err = socketError(s.Conn, "read", unix.ECONNRESET)
	}
	return n, err
}

// socketError gives a failure the form that package net gives it.
func socketError(c net.Conn, op string, cause error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: cause}
}

// wasReset says that a connection has no peer any more, though we have not
// ended our direction: that is no half-close.
func (s *Socket) wasReset() bool {
	if s.raw == nil || s.ended.Load() {
		return false
	}
	var reset bool
	err := s.raw.Control(func(fd uintptr) {
		_, err := unix.Getpeername(int(fd))
		reset = err == unix.ENOTCONN || err == unix.EINVAL // the latter on BSD
	})
	// CloseWrite may have come in between, and with it the orderly end of a
	// connection that has no peer any more either.
	return err == nil && reset && !s.ended.Load()
}

// Alive reports a connection that the peer has reset. An orderly end is no
// fault, and what the peer sent before it may still be unread.
func (s *Socket) Alive() error {
	if s.raw == nil {
		return nil
	}
	var reset bool
	if err := s.raw.Control(func(fd uintptr) { reset = hasError(fd) }); err != nil {
		return err
	}
	if reset {
		return unix.ECONNRESET
	}
	return nil
}

// WaitReset blocks, after the peer's end has been read, until the peer resets
// the connection all the same. It returns nil when the connection is closed or
// the read deadline passes.
func (s *Socket) WaitReset() error {
	if s.raw == nil {
		return nil
	}
	if err := s.raw.Read(hasError); err != nil {
		return nil
	}
	return unix.ECONNRESET
}

// hasError says that a socket has an error to report, and leaves it there.
func hasError(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
}
