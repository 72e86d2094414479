//go:build unix

package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"adit/internal/config"
	"adit/internal/hint"
)

// A web server in front that runs as another user gets in by the socket's group or
// mode.
func TestSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	for _, c := range []struct {
		file SocketFile
		mode os.FileMode
	}{{SocketFile{}, 0o660}, {SocketFile{Mode: 0o666}, 0o666}, {SocketFile{0o620, strconv.Itoa(os.Getgid())}, 0o620}} {
		ls, err := Sockets{}.Listen([]config.Address{{Network: "unix", Address: path}}, c.file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != c.mode || info.Sys().(*syscall.Stat_t).Gid != uint32(os.Getgid()) {
			t.Errorf("%+v: %v, %v", c.file, info.Mode(), err)
		}
		CloseAll(ls)
	}
	_, err := Sockets{}.Listen([]config.Address{{Network: "unix", Address: path}}, SocketFile{Group: "no such group"})
	if err == nil || hint.Of(err) == "" {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a socket is left")
	}
}
