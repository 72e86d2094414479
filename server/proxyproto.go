package server

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// proxyHeader returns the PROXY protocol header that tells a backend the client's
// address; nil for the version "off" or "". A client without an address is
// UNKNOWN in v1 and LOCAL in v2. local is the address that the client connected
// to.
func proxyHeader(version string, client netip.AddrPort, local net.Addr) ([]byte, error) {
	var v byte
	switch version {
	case "v1":
		v = 1
	case "v2":
		v = 2
	default:
		return nil, nil
	}
	var src, dst net.Addr
	if client.IsValid() {
		src = net.TCPAddrFromAddrPort(client)
		dst = local
		if _, ok := local.(*net.TCPAddr); !ok {
			// A unix socket, behind a proxy that named the client.
			unspecified := netip.IPv4Unspecified()
			if client.Addr().Is6() {
				unspecified = netip.IPv6Unspecified()
			}
			dst = net.TCPAddrFromAddrPort(netip.AddrPortFrom(unspecified, 0))
		}
	}
	b, err := proxyproto.HeaderProxyFromAddrs(v, src, dst).Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY protocol header: %w", err)
	}
	return b, nil
}
