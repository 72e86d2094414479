//go:build !unix

package testnet

import (
	"net"
	"testing"
)

// AwaitReadable skips the test: it takes a system that can look at what a
// socket has to read.
func AwaitReadable(t testing.TB, _ net.Conn) {
	t.Helper()
	t.Skip("needs MSG_PEEK")
}
