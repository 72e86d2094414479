package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// Listen is net.Listen, except that its connections are [Unpaced], and have no keepalives if address is a loopback
// address; that the host localhost is both loopback addresses; and that 0.0.0.0 is every IPv4 address alone.
func Listen(network, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: Unpaced}
	host, port, err := net.SplitHostPort(address)
	if err == nil && Local(host) {
		lc.KeepAlive = -1
		lc.SetMultipathTCP(false) // loopback is one path
	}
	if network == "tcp" && strings.EqualFold(host, "localhost") {
		return listenLoopbacks(&lc, port)
	}
	if ip, err := netip.ParseAddr(host); network == "tcp" && err == nil && ip.Is4() {
		network = "tcp4"
	}
	return lc.Listen(context.Background(), network, address)
}

// Local reports whether host is a loopback address or localhost. Such a peer needs no keepalives: the kernel
// closes its connections when it ends.
func Local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// ListenUnix listens on a unix stream socket with the given permissions, which hold before anybody can connect. It
// replaces a socket on which no process listens, as a crash leaves one, and no other file.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	ln, err := bindUnix(path, mode)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace an abandoned socket: %w", err)
		}
		ln, err = bindUnix(path, mode)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil { // what the umask has taken away
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// abandoned reports whether path is a socket on which no process listens.
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
