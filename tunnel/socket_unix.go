//go:build unix

package tunnel

import (
	"io"

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
		for {
			n, _, failure = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if failure != unix.EINTR {
				return failure != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return err
	case failure != nil:
		return nil // Read reports it with its operation and addresses
	case n == 0:
		return io.EOF
	}
	return nil
}

// Alive reports a connection that the peer has reset. An orderly end is no
// fault, and what the peer sent before it may still be unread.
func (s *Socket) Alive() error {
	if s.raw == nil {
		return nil
	}
	var reset bool
	err := s.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		reset = err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
	})
	if err == nil && reset {
		err = unix.ECONNRESET
	}
	return err
}
