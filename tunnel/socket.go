package tunnel

import (
	"net"
	"syscall"
)

// Socket makes an Endpoint of a TCP or unix stream connection.
type Socket struct {
	net.Conn
	raw syscall.RawConn // nil where the connection is no socket
}

// NewSocket wraps c, which should be a *net.TCPConn or *net.UnixConn. Others
// work, but cannot end one direction or reset.
func NewSocket(c net.Conn) *Socket {
	s := &Socket{Conn: c}
	if sc, ok := c.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	return s
}

// CloseWrite sends a FIN.
func (s *Socket) CloseWrite() error {
	if w, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Abort closes the connection so that a TCP peer sees a reset. A unix socket
// has no resets: its peer sees one only if it had sent what was not read.
func (s *Socket) Abort() {
	if l, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	s.Conn.Close()
}
