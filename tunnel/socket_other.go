//go:build !unix

package tunnel

// WaitReadable does not wait on this system: the Read that follows does.
func (s *Socket) WaitReadable() error { return nil }

// Alive cannot tell on this system.
func (s *Socket) Alive() error { return nil }

// Read reads data.
func (s *Socket) Read(p []byte) (int, error) { return s.bytes.Read(p) }
