//go:build unix && !linux

package tunnel

import "golang.org/x/sys/unix"

// readNow reads into p, which is not empty, what a socket that does not block
// has. No bytes are the end.
func readNow(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = unix.Read(int(fd), p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
