//go:build !unix

package testnet

import (
	"net"
	"testing"
)

// AwaitReadable skips the test, because this system has no MSG_PEEK.
func AwaitReadable(t testing.TB, _ net.Conn) {
	t.Helper()
	t.Skip("needs MSG_PEEK")
}
