//go:build !linux

package tunnel

import (
	"net"
	"time"
)

// SetUserTimeout bounds how long data may stay unacknowledged before the
// kernel ends nc, on systems that have TCP_USER_TIMEOUT. This one has not:
// it does nothing.
func SetUserTimeout(net.Conn, time.Duration) error { return nil }

// ClearUserTimeout takes back what SetUserTimeout did, which is nothing here.
func ClearUserTimeout(net.Conn) {}
