package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Listen is net.Listen, with connections that are [Unpaced].
func Listen(network, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: Unpaced}
	return lc.Listen(context.Background(), network, address)
}

// ListenUnix listens on a unix stream socket with the given permissions. A
// socket that nobody listens on any more, as a crash leaves it, is replaced;
// any other file is not.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace an abandoned socket: %w", err)
		}
		ln, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
