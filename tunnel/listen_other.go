//go:build !unix

package tunnel

import (
	"io/fs"
	"net"
)

// bindUnix listens on a unix socket. The mode has no meaning here.
func bindUnix(path string, _ fs.FileMode) (net.Listener, error) { return net.Listen("unix", path) }
