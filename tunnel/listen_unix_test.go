//go:build unix

package tunnel

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// With a permissive umask nobody else can connect to a socket before its mode is set.
func TestUnixSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "sock")
	bound, err := bindUnix(path, 0o600) // as ListenUnix does before it sets the mode
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	syscall.Umask(0o077)
	path += "2"
	ln, err := ListenUnix(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
