//go:build unix && !linux

package tunnel

import (
	"io/fs"
	"net"
	"sync"
	"syscall"
)

var umaskMu sync.Mutex

// bindUnix listens on a unix socket that only its owner can connect to, or fewer if mode says so. The umask is that
// of the whole process, for as long as it takes.
func bindUnix(path string, mode fs.FileMode) (net.Listener, error) {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	before := syscall.Umask(0o077 | int(^mode.Perm()&0o777))
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
