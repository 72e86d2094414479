package ws

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// A connectStream is a net.Conn over the request body and the response of an extended CONNECT. It uses
// neither after Close has returned.
type connectStream struct {
	body          io.ReadCloser
	w             http.ResponseWriter
	rc            *http.ResponseController
	local, remote net.Addr

	// Guarded by mu.
	mu      sync.Mutex
	closed  bool
	ended   bool // our direction has ended: nothing more is read or written
	late    bool // the write deadline has passed
	writing bool
	timer   *time.Timer   // of the write deadline
	idle    chan struct{} // made by Close, closed by the last write
}

func (s *connectStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	closed, ended := s.closed, s.ended
	s.mu.Unlock()
	switch {
	case closed:
		return 0, net.ErrClosed
	case ended:
		return 0, io.EOF
	}
	return s.body.Read(p)
}

func (s *connectStream) Write(p []byte) (int, error) {
	if err := s.beginWrite(); err != nil {
		return 0, err
	}
	defer s.endWrite()
	n, err := s.w.Write(p)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil && s.isLate() {
		err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return n, err
}

func (s *connectStream) flush() error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.endWrite()
	return s.rc.Flush()
}

func (s *connectStream) beginWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.ended:
		return net.ErrClosed
	case s.late:
		return os.ErrDeadlineExceeded
	}
	s.writing = true
	return nil
}

func (s *connectStream) endWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	if s.idle != nil {
		close(s.idle)
	}
}

func (s *connectStream) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// CloseWrite ends our direction. The peer sees that when the handler returns. Reads end, too, so that data
// which the peer still sends does not keep the handler from returning. Unlike in TCP, that loses no data
// that we sent.
func (s *connectStream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// Close unblocks reads and writes, and waits for the writes.
func (s *connectStream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	_ = s.rc.SetReadDeadline(time.Unix(1, 0))
	var idle chan struct{}
	if s.writing {
		idle = make(chan struct{})
		s.idle = idle
		s.resetStream()
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return nil
}

// resetStream unblocks a write. mu is held.
func (s *connectStream) resetStream() { _ = s.rc.SetWriteDeadline(time.Unix(1, 0)) }

func (s *connectStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *connectStream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.rc.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes. It does not use the HTTP/2 stream's own deadline, which resets the stream
// even if nothing is being written.
func (s *connectStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.late = false
	if t.IsZero() {
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer != timer || s.closed {
			return
		}
		s.late = true
		if s.writing {
			s.resetStream()
		}
	})
	s.timer = timer
	return nil
}

func (s *connectStream) LocalAddr() net.Addr  { return s.local }
func (s *connectStream) RemoteAddr() net.Addr { return s.remote }
