//go:build !linux

package tunnel

import (
	"net"
	"time"
)

// SetUserTimeout does nothing on this system, which has no TCP_USER_TIMEOUT.
func SetUserTimeout(net.Conn, time.Duration) error { return nil }

// ClearUserTimeout undoes SetUserTimeout: it does nothing on this system.
func ClearUserTimeout(net.Conn) {}
