//go:build unix

package descriptors

import (
	"math"

	"golang.org/x/sys/unix"
)

// limit returns how many descriptors the process may have, or 0 if that is unknown.
func limit() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return int(min(uint64(r.Cur), math.MaxInt32))
}

// lowestFree returns the lowest descriptor that is not in use.
func lowestFree() int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	switch {
	case Short(err):
		return math.MaxInt32
	case err != nil:
		return 0
	}
	unix.Close(fd)
	return fd
}
