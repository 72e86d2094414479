package mux

import (
	"fmt"
	"io"
)

// WaitReadable blocks until Read would not, and holds no buffer meanwhile. It
// returns io.EOF when the peer has ended its direction.
func (s *Stream) WaitReadable() error {
	s.mu.Lock()
	err, discard, ended := s.err, s.discard, s.gotEnd
	s.mu.Unlock()
	switch {
	case discard && err != nil:
		return err
	case ended:
		return io.EOF
	case s.remain > 0:
		return nil
	}
	if err := s.Result(); err != nil {
		return err
	}
	if _, err := io.ReadFull(&s.in, s.header[:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s.cutShort()
		}
		return s.fail(err)
	}
	t, n, err := parseFrame(s.header)
	if err != nil {
		return s.fail(err)
	}
	if t == frameEnd {
		s.mu.Lock()
		s.gotEnd = true
		s.mu.Unlock()
		if err := s.in.in.seal(); err != nil {
			s.core.link.Fail(fmt.Errorf("stream %d: %w", s.id(), err))
		}
		return io.EOF
	}
	s.remain = n
	s.core.windows.consumed(&s.window, frameHeader)
	return nil
}

// Await has ready called in a goroutine of its own, once, when WaitReadable
// would not block for the first byte of what is next. It reports false, and does
// not call it, if that is so already. Only the reader calls it, and not again
// before ready has been called.
func (s *Stream) Await(ready func()) bool { return s.in.in.await(ready) }

// Read reads data. It returns io.EOF only when the peer has ended its direction
// with CloseWrite; any other end is an error.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := s.View()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	s.Take(n)
	return n, nil
}

// View waits for data and returns some of it, which stays where it is until
// Take. Errors are those of Read. The bytes must not be changed.
func (s *Stream) View() ([]byte, error) {
	if err := s.WaitReadable(); err != nil {
		return nil, err
	}
	b, err := s.in.in.view(s.remain)
	if err == io.EOF {
		return nil, s.cutShort()
	} else if err != nil {
		return nil, s.fail(err)
	}
	return b, nil
}

// Take removes n bytes that View has returned.
func (s *Stream) Take(n int) {
	s.in.take(n)
	s.remain -= n
	s.core.windows.consumed(&s.window, n)
}
