//go:build !linux

package tunnel

import (
	"io"
	"net"
)

// readWriter gives the best way to read from and write to nc.
func readWriter(nc net.Conn) io.ReadWriter { return nc }
