//go:build unix

package client

import "golang.org/x/sys/unix"

// hasNoReader reports whether the other end of a pipe or socket is closed. What
// else fd may be, such as a file or a terminal, always has a reader.
func hasNoReader(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
