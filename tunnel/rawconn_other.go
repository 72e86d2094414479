//go:build !linux || plainio

package tunnel

import (
	"io"
	"net"
)

// readWriter returns the best way to read from and write to nc: nc itself, without rawConn.
func readWriter(nc net.Conn) io.ReadWriter { return nc }
