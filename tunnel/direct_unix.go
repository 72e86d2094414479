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

// eventsNow is what poll(2) says of a socket that is not asked for anything.
func eventsNow(fd uintptr) (int16, error) {
	p := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(p, 0)
	return p[0].Revents, err
}

// peerNow fails where a socket has no peer.
func peerNow(fd uintptr) error {
	_, err := unix.Getpeername(int(fd))
	return err
}
