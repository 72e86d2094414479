package mux

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// ResetError is the end of a stream that did not end well.
type ResetError struct {
	Code   Code
	Remote bool // the peer reset the stream
}

func (e *ResetError) Error() string {
	if e.Remote {
		return "the stream was reset by the other end: " + e.Code.String()
	}
	return "the stream was reset: " + e.Code.String()
}

// RefusedError says why the peer did not connect a stream to its target.
type RefusedError struct {
	Code   Code
	Reason string // for people, may be empty
}

func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Reason
}

// errWriteAfterEnd is the error of a Write after CloseWrite.
var errWriteAfterEnd = fmt.Errorf("stream: write after its end: %w", io.ErrClosedPipe)

// endKind says how a stream ended.
type endKind int

const (
	endLocal   endKind = iota // this side reset it; tell the peer
	endRemote                 // the peer reset it
	endRefused                // the result refused it
	endLost                   // the session was lost
)

// Watch registers two functions, either of which may be nil. gone is called,
// once, when the stream ends other than well, from a goroutine that it must not
// block; at once if that has happened already. blocked is called now and then
// while a Write waits for the peer's window; its error ends the Write.
func (s *Stream) Watch(gone func(), blocked func() error) {
	s.mu.Lock()
	over := s.err != nil
	if !over {
		s.gone, s.blocked = gone, blocked
	}
	s.mu.Unlock()
	if over && gone != nil {
		gone()
	}
}

// Reset ends the stream in both directions at once; the application at the other
// end sees a reset.
func (s *Stream) Reset(code Code) { s.end(&ResetError{Code: code}, endLocal) }

// Abort is Reset for a connection that was reset.
func (s *Stream) Abort() { s.Reset(Reset) }

// Close gives the stream back. After both directions have ended it is a
// formality; otherwise it is a Reset.
func (s *Stream) Close() error {
	s.mu.Lock()
	again, clean := s.closed, s.gotEnd && s.sentEnd && s.err == nil
	s.closed, s.discard = true, true
	s.mu.Unlock()
	if again {
		return nil
	}
	if !clean {
		s.Reset(Cancelled)
	}
	s.core.adapter.closeBuffer(s.id(), s.in.in)
	s.owner.removeStream(s)
	s.core.windows.remove(&s.window)
	return s.yamux.Close()
}

// end ends the stream for the first reason that it is given.
func (s *Stream) end(err error, kind endKind) {
	s.mu.Lock()
	if s.err != nil || s.gotEnd && s.sentEnd && kind != endLost {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.discard = s.discard || kind == endLocal || kind == endRefused
	// Everything that the peer sent before its reset, or before the link was lost,
	// has arrived and can be read.
	s.in.in.stop()
	gone := s.gone
	s.gone = nil
	s.mu.Unlock()
	if gone != nil {
		gone()
	}
	close(s.done)
	if kind == endLocal {
		s.core.control.send(controlFrame{controlReset, s.id(), uint32(codeOf(err))})
	}
}

func codeOf(err error) Code {
	var reset *ResetError
	if errors.As(err, &reset) {
		return reset.Code
	}
	return Failed
}

// fail ends the stream because yamux failed under it, or the peer broke the
// protocol, and returns the reason.
func (s *Stream) fail(err error) error {
	kind := endLocal
	if err = s.core.cause(err); errors.Is(err, ErrSessionLost) {
		kind = endLost
	}
	s.end(err, kind)
	return s.cause(err)
}

// cause prefers the reason for the stream's end to err.
func (s *Stream) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if err != nil {
		return s.core.cause(err)
	}
	return nil
}

// reasonGrace is how long the reason for a stream's sudden end is waited for.
const reasonGrace = 250 * time.Millisecond

// cutShort ends a stream that stopped without its end marker. The peer says why
// on the control stream, which may be a moment behind.
func (s *Stream) cutShort() error {
	select {
	case <-s.done:
	case <-time.After(reasonGrace):
	}
	return s.fail(&ResetError{Code: Reset, Remote: true})
}
