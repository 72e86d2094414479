//go:build !unix

package tunnel

// WaitReadable does not wait on this system: the Read that follows does.
func (s *Socket) WaitReadable() error { return nil }

// Alive cannot tell on this system.
func (s *Socket) Alive() error { return nil }
