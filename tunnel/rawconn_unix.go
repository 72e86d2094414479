//go:build unix && (!linux || plainio)

package tunnel

import "golang.org/x/sys/unix"

// readNow reads into p, which is not empty, without waiting: the error is EAGAIN when there is
// nothing to read. No bytes and no error are the end of the stream.
func readNow(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = unix.Read(int(fd), p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
