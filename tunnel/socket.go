package tunnel

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// A Socket is an Endpoint made of a TCP or unix stream connection.
type Socket struct {
	net.Conn
	bytes   io.ReadWriter   // the socket fast path, or Conn
	raw     syscall.RawConn // nil where Conn is no socket
	reading bufferRead
	ended   atomic.Bool // our direction, by CloseWrite
}

// NewSocket takes over c, which should be a *net.TCPConn or *net.UnixConn. Others work, but cannot end
// one direction or reset.
func NewSocket(c net.Conn) *Socket {
	s := &Socket{Conn: c, bytes: readWriter(c)}
	if sc, ok := c.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	// Until it has ended well: if this process is killed, the system then resets the connection,
	// where it would otherwise end it in good order.
	s.setLinger(0)
	return s
}

// setLinger says how Close ends the connection: 0 is a reset, which drops what has not been sent, -1
// an orderly end.
func (s *Socket) setLinger(seconds int) {
	if l, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(seconds)
	}
}

// Read reads data. The system reports a reset once, perhaps to a Write at the same time; what then
// looks like an end is not reported as one.
func (s *Socket) Read(p []byte) (int, error) {
	n, err := s.bytes.Read(p)
	if err == io.EOF {
		err = s.ending()
	}
	return n, err
}

// Write writes all of p, or fails.
func (s *Socket) Write(p []byte) (int, error) { return s.bytes.Write(p) }

// CloseWrite sends a FIN.
func (s *Socket) CloseWrite() error {
	s.ended.Store(true)
	if w, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// StopReading makes reads and WaitReset return at once, also later ones.
func (s *Socket) StopReading() { s.SetReadDeadline(time.Unix(1, 0)) }

// StopWritingAfter makes writes fail after d.
func (s *Socket) StopWritingAfter(d time.Duration) { s.SetWriteDeadline(time.Now().Add(d)) }

// Abort closes the connection so that a TCP peer sees a reset. A unix socket has no resets: its peer
// sees one only if it had sent data that was not read.
func (s *Socket) Abort() {
	s.setLinger(0)
	s.Conn.Close()
}

// Close closes a connection whose directions have both ended.
func (s *Socket) Close() error {
	s.setLinger(-1)
	return s.Conn.Close()
}
