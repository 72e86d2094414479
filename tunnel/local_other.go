//go:build !linux

package tunnel

import (
	"context"
	"net"
	"net/netip"
)

// LocalListener takes over ln. Where its connections cannot leave the machine, they
// cost less on Linux; here it returns ln.
func LocalListener(ln net.Listener) net.Listener { return ln }

// DialLocal connects to address, of this machine's loopback interface. On Linux it
// costs less than d.DialContext; here it is that. Of d, only the control
// functions count.
func DialLocal(ctx context.Context, d *net.Dialer, address netip.AddrPort) (net.Conn, error) {
	local := net.Dialer{Control: d.Control, ControlContext: d.ControlContext, KeepAlive: -1}
	return local.DialContext(ctx, "tcp", address.String())
}
