//go:build unix && !linux

package tunnel

import "golang.org/x/sys/unix"

// peekNow shows what a socket that does not block has, and leaves it there. No
// bytes are the end.
func peekNow(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, _, err = unix.Recvfrom(int(fd), p, unix.MSG_PEEK); err != unix.EINTR {
			return n, err
		}
	}
}
