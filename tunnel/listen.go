package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Listen is net.Listen, with connections that are [Unpaced], and without
// keepalives for those that do not leave the machine.
func Listen(network, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: Unpaced}
	if host, _, err := net.SplitHostPort(address); err == nil && Local(host) {
		lc.KeepAlive = -1
		lc.SetMultipathTCP(false) // there is one path
	}
	return lc.Listen(context.Background(), network, address)
}

// Local reports whether host is an address of this machine's loopback
// interface, or the name of one: who is there cannot go away unnoticed.
func Local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
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
