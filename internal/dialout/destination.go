package dialout

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"adit/internal/descriptors"
	"adit/mux"
	"adit/tunnel"
)

// Destination is where to connect, and on what condition.
type Destination struct {
	Address
	// Check, if not nil, is asked about each resolved address at the moment of
	// connecting to it. After an error the next address is tried. It is not
	// asked about unix sockets.
	Check func(resolved netip.AddrPort) error
}

// Address is the address of a listening socket. It is comparable.
type Address struct {
	Network string // "tcp" or "unix"
	Host    string // name or IP address; the path of a unix socket
	Port    uint16 // 0 for a unix socket
}

// ParseAddress parses HOST:PORT or unix:PATH, where PATH is absolute.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return Address{}, fmt.Errorf("socket path %q is not absolute", path)
		}
		return Address{Network: "unix", Host: path}, nil
	}
	return ParseHostPort(s)
}

// ParseHostPort parses HOST:PORT, an IPv6 address in brackets.
func ParseHostPort(s string) (Address, error) {
	host, port, err := net.SplitHostPort(s)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || n == 0 {
		return Address{}, fmt.Errorf("not a HOST:PORT with a port from 1 to 65535: %q", s)
	}
	return Address{"tcp", host, uint16(n)}, nil
}

// String returns the address in the form that net.Dialer takes.
func (a Address) String() string {
	if a.Network == "unix" {
		return a.Host
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Dial connects to the destination. A nil resolver is net.DefaultResolver. It
// fails with EMFILE while file descriptors are left for new connections only.
func (d Destination) Dial(ctx context.Context, resolver *net.Resolver) (net.Conn, error) {
	if err := descriptors.CheckDial(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Resolver: resolver, Control: tunnel.Unpaced}
	if tunnel.Local(d.Host) {
		dialer.KeepAlive = -1
	}
	if d.Check != nil && d.Network != "unix" {
		dialer.ControlContext = func(_ context.Context, network, resolved string, conn syscall.RawConn) error {
			if err := d.check(resolved); err != nil {
				return err
			}
			return tunnel.Unpaced(network, resolved, conn)
		}
	}
	return dialer.DialContext(ctx, d.Network, d.String())
}

func (d Destination) check(resolved string) error {
	ap, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return &Refusal{mux.Forbidden, "the resolved address is malformed", fmt.Errorf("resolved address: %w", err)}
	}
	return d.Check(ap)
}
