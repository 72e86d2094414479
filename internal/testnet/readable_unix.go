//go:build unix

package testnet

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// AwaitReadable waits until the socket c has data or an end to read, and does
// not consume it.
func AwaitReadable(t testing.TB, c net.Conn) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		_, _, failure = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return failure != unix.EAGAIN && failure != unix.EINTR
	})
	if err != nil || failure != nil {
		t.Fatal(err, failure)
	}
}
