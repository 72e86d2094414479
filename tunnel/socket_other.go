//go:build !unix

package tunnel

type bufferRead struct{}

// ReadBuffer is Read, of at most size bytes, into a buffer, which it has while it
// waits on this system. The buffer is nil when nothing was read, and else the
// caller's to free.
func (s *Socket) ReadBuffer(size int) (*Buffer, int, error) { return readBuffer(s, size) }

// Alive cannot tell on this system.
func (s *Socket) Alive() error { return nil }

// Read reads data.
func (s *Socket) Read(p []byte) (int, error) { return s.bytes.Read(p) }
