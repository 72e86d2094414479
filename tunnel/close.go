package tunnel

import (
	"crypto/tls"
	"net"
)

// CloseNow closes the socket beneath nc. Closing a tls.Conn itself may wait up to 5 seconds to send
// an alert.
func CloseNow(nc net.Conn) error {
	for {
		t, ok := nc.(*tls.Conn)
		if !ok {
			return nc.Close()
		}
		nc = t.NetConn()
	}
}

// CloseWrite ends our direction of nc: with an alert of each TLS layer and then with the end of the
// TCP stream, so that every peer notices. Errors are dropped: the peer then notices nothing.
func CloseWrite(nc net.Conn) {
	for {
		if w, ok := nc.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		t, ok := nc.(*tls.Conn)
		if !ok {
			return
		}
		nc = t.NetConn()
	}
}
