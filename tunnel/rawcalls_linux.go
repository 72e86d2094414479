//go:build !race

package tunnel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow reads into p, which is not empty, what a socket that does not block
// has. No bytes are the end.
func readNow(fd uintptr, p []byte) (int, error) { return callNow(unix.SYS_READ, fd, p, 0) }

// writeNow writes what a socket that does not block takes of p. The flags are
// those of send(2).
func writeNow(fd uintptr, p []byte, flags int) (int, error) {
	return callNow(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL|uintptr(flags))
}

// callNow makes a system call past Go's scheduler, which therefore must not
// block.
func callNow(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
