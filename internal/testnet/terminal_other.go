//go:build !linux

package testnet

import (
	"os"
	"testing"
)

// Terminal skips the test: only Linux has what makes a terminal here.
func Terminal(t testing.TB) *os.File {
	t.Skip("terminals for tests are made on Linux only")
	return nil
}
