//go:build unix

package tunnel

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Capabilities are those of a relay's endpoint.
func (s *Socket) Capabilities() Capabilities {
	c := Capabilities{StopReading: s.StopReading, StopWritingAfter: s.StopWritingAfter}
	if s.raw != nil {
		c.ReadBuffer, c.ReadNow = s.ReadBuffer, s.ReadNow
		c.Alive, c.WaitReset = s.Alive, s.WaitReset
	}
	return c
}

// A bufferRead is a ReadBuffer or ReadNow that is under way.
type bufferRead struct {
	size   int
	now    bool    // do not wait
	buffer *Buffer // nil if nothing was read
	n      int
	err    error
	try    func(fd uintptr) (done bool) // read, bound once
}

func (r *bufferRead) read(fd uintptr) (done bool) {
	b := NewBuffer()
	r.n, r.err = readNow(fd, b.Bytes[BufferHeadroom:BufferHeadroom+r.size])
	if r.n > 0 {
		r.buffer = b
		return true
	}
	b.Free()
	return r.now || r.err != unix.EAGAIN
}

// ReadBuffer reads at most size bytes into a buffer that it takes when there is something to read. The
// buffer is nil when nothing was read, and otherwise the caller's to free. Only one goroutine may call
// it or ReadNow at a time.
func (s *Socket) ReadBuffer(size int) (b *Buffer, n int, err error) {
	if s.raw == nil {
		return readBuffer(s, size)
	}
	return s.readBuffer(size, false)
}

// ReadNow is ReadBuffer without waiting: when there is nothing to read, there is neither a buffer nor
// an error.
func (s *Socket) ReadNow(size int) (b *Buffer, n int, err error) {
	if s.raw == nil {
		return nil, 0, nil
	}
	return s.readBuffer(size, true)
}

func (s *Socket) readBuffer(size int, now bool) (b *Buffer, n int, err error) {
	r := &s.reading
	if r.try == nil {
		r.try = r.read
	}
	r.size, r.now, r.n, r.err = size, now, 0, nil
	err = s.raw.Read(r.try)
	b, r.buffer = r.buffer, nil
	switch {
	case err != nil:
	case now && r.err == unix.EAGAIN:
	case r.err != nil:
		err = socketError(s.Conn, "read", os.NewSyscallError("read", r.err))
	case r.n == 0:
		err = s.ending()
	}
	return b, r.n, err
}

// ending returns the error for what looked like the end of the stream. A connection that has no peer
// any more, though we have not ended our direction, was reset: a half-close leaves the peer.
func (s *Socket) ending() error {
	if s.raw == nil || s.ended.Load() {
		return io.EOF
	}
	var reset bool
	err := s.raw.Control(func(fd uintptr) {
		_, err := unix.Getpeername(int(fd))
		reset = err == unix.ENOTCONN || err == unix.EINVAL // the latter on BSD
	})
	switch {
	case err != nil: // closed by us meanwhile: the end cannot be told from a reset any more
		return err
	case reset && !s.ended.Load(): // CloseWrite may have come in between
		return socketError(s.Conn, "read", unix.ECONNRESET)
	}
	return io.EOF
}

// Alive returns an error if the peer has reset the connection. An orderly end is none, and data that
// the peer sent before it may still be unread.
func (s *Socket) Alive() error {
	if s.raw == nil {
		return nil
	}
	var reset bool
	if err := s.raw.Control(func(fd uintptr) { reset = hasError(fd) }); err != nil {
		return err
	}
	if reset {
		return unix.ECONNRESET
	}
	return nil
}

// WaitReset blocks, after the peer's end has been read, until the peer resets the connection all the
// same. It returns nil when the connection is closed or the read deadline passes.
func (s *Socket) WaitReset() error {
	if s.raw == nil {
		return nil
	}
	if err := s.raw.Read(hasError); err != nil {
		return nil
	}
	return unix.ECONNRESET
}

// hasError reports whether a socket has an error pending, and leaves it there.
func hasError(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&unix.POLLERR != 0
}
