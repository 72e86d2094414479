package mux

import (
	"fmt"
	"io"
	"time"
)

// ReadTarget reads what the peer wants to be connected to, within the session's
// OpenTimeout, which starts again if the session was without a connection
// meanwhile. It refuses a stream of an unknown kind. Only the accepting side calls
// it, once.
func (s *Stream) ReadTarget() (Target, error) {
	opened, began := false, time.Now() // guarded by s.mu
	var timer *time.Timer
	s.mu.Lock()
	timer = time.AfterFunc(s.core.openTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case opened || s.err != nil:
		case s.core.link.InterruptedSince(began):
			began = time.Now()
			timer.Reset(s.core.openTimeout)
		default:
			s.in.in.stop()
		}
	})
	s.mu.Unlock()
	defer timer.Stop()
	t, err := readOpen(&s.in)
	if err == errUnknownKind {
		s.Refuse(Unsupported, fmt.Sprintf("this side does not know streams of kind %d", t.Kind))
		return t, err
	}
	if err != nil {
		return t, fmt.Errorf("stream header: %w", s.cause(err))
	}
	s.mu.Lock()
	opened = true
	if s.err == nil {
		s.in.in.resume()
	}
	s.mu.Unlock()
	s.target = t
	return t, nil
}

// Connected tells the peer that its target has been reached. Only the accepting
// side calls it.
func (s *Stream) Connected() error {
	err := s.writeRaw(appendResult(make([]byte, yamuxHeader), Connected, ""))
	return s.cause(err)
}

// Refuse tells the peer why its target cannot be reached, and ends the stream;
// Close is still the caller's to call.
func (s *Stream) Refuse(code Code, reason string) error {
	err := s.writeRaw(appendResult(make([]byte, yamuxHeader), code, reason))
	s.end(&RefusedError{code, reason}, endRefused)
	return s.cause(err)
}

// Result waits for the peer's answer: nil, a *RefusedError, or the reason why
// there is none. Only the opening side calls it, and only before Read.
func (s *Stream) Result() error {
	if s.gotResult || !s.opener {
		return s.refused
	}
	code, reason, err := readResult(&s.in)
	if err != nil {
		if err == io.ErrUnexpectedEOF {
			return s.cutShort()
		}
		return s.fail(err)
	}
	s.gotResult = true
	if code != Connected {
		s.refused = &RefusedError{code, reason}
		s.end(s.refused, endRefused)
	}
	return s.refused
}
