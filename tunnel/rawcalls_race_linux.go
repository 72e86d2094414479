//go:build race

package tunnel

import "syscall"

// The race detector learns from package syscall what happens before what when
// two goroutines talk to each other by a socket.

func readNow(fd uintptr, p []byte) (n int, err error) {
	return uninterrupted(func() (int, error) { return syscall.Read(int(fd), p) })
}

func writeNow(fd uintptr, p []byte, _ int) (int, error) {
	return uninterrupted(func() (int, error) { return syscall.Write(int(fd), p) })
}

func uninterrupted(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
