package tunnel

import (
	"context"
	"io/fs"
	"net"
	"syscall"
)

// bindUnix listens on a unix socket that nobody can connect to whom mode does not let: the mode of an unbound
// socket becomes that of its file, less the umask.
func bindUnix(path string, mode fs.FileMode) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if failed := rc.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); failed != nil {
			return failed
		}
		return err
	}}
	return lc.Listen(context.Background(), "unix", path)
}
