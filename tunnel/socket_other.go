//go:build !unix

package tunnel

import "io"

type bufferRead struct{}

// Capabilities are those of a relay's endpoint.
func (s *Socket) Capabilities() Capabilities {
	return Capabilities{StopReading: s.StopReading, StopWritingAfter: s.StopWritingAfter}
}

// ReadBuffer reads at most size bytes into a buffer, which it holds while it waits on this system. The
// buffer is nil when nothing was read, and otherwise the caller's to free.
func (s *Socket) ReadBuffer(size int) (*Buffer, int, error) { return readBuffer(s, size) }

// Alive returns nil: this system does not tell of a reset before a read does.
func (s *Socket) Alive() error { return nil }

// ending returns the error for what looked like the end of the stream.
func (s *Socket) ending() error { return io.EOF }
