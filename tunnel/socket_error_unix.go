//go:build unix

package tunnel

import "net"

// socketError gives a failure the form that package net gives it.
func socketError(c net.Conn, op string, cause error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: cause}
}
