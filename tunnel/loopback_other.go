//go:build !linux

package tunnel

import "syscall"

// Unpaced is for net.Dialer.Control and net.ListenConfig.Control. On Linux it keeps timers from pacing
// connections between loopback addresses; here it does nothing.
// The error is always nil.
func Unpaced(_, _ string, _ syscall.RawConn) error { return nil }
