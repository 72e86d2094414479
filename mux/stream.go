package mux

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"adit/tunnel"
)

// ErrSessionLost is wrapped by the errors of streams whose session ended under
// them.
var ErrSessionLost = errors.New("the session was lost")

// ResetError is the end of a stream that did not end well.
type ResetError struct {
	Code   Code
	Remote bool // the peer did it
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

// Stream is one connection through a session. It behaves as TCP does: each
// direction ends by itself (CloseWrite, io.EOF), and any other end is an
// error, never a clean end of data.
//
// One goroutine may read and another write. Reset may be called by anybody,
// and unblocks both. The owner calls Close when both are done.
type Stream struct {
	session *Session
	yamux   *yamux.Stream
	opener  bool
	target  Target

	// Used by the reader only.
	raw       reader
	header    [frameHeader]byte
	remain    int // payload bytes left of the current frame
	gotResult bool
	refused   error // that the result said
	window    window

	// Sending.
	credit   atomic.Int64 // bytes of frames that may be sent
	credited chan struct{}

	// For control to announce; under its mu.
	owed     int64 // credit for the peer
	returned int64 // credit that was the peer's
	asked    bool  // for what is returned

	// The end.
	mu      sync.Mutex
	err     error // why the stream is over, unless it ended well
	deaf    bool  // what the peer sent before is not wanted
	closed  bool  // by Close
	gotEnd  bool
	sentEnd bool
	gone    func()
	blocked func() error
	done    chan struct{} // closed when err is set
}

// reasonGrace is how long the reason for a stream's sudden end is waited for.
const reasonGrace = 250 * time.Millisecond

// errEnded is the error of a Write after CloseWrite.
var errEnded = fmt.Errorf("stream: write after its end: %w", io.ErrClosedPipe)

// Target is what the stream is, or was to be, connected to. On the accepting
// side it is known after ReadTarget.
func (s *Stream) Target() Target { return s.target }

// ReadTarget reads what the peer wants to be connected to, within the
// session's OpenTimeout, which begins anew when the session has been without a
// connection meanwhile. Only the accepting side calls it, once.
func (s *Stream) ReadTarget() (Target, error) {
	opened, began := false, time.Now() // guarded by s.mu
	var timer *time.Timer
	s.mu.Lock()
	timer = time.AfterFunc(s.session.cfg.OpenTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case opened || s.err != nil:
		case s.session.link.interrupted(began):
			began = time.Now()
			timer.Reset(s.session.cfg.OpenTimeout)
		default:
			s.raw.in.stop()
		}
	})
	s.mu.Unlock()
	defer timer.Stop()
	t, err := readOpen(&s.raw)
	if err != nil {
		return t, fmt.Errorf("stream header: %w", s.cause(err))
	}
	s.mu.Lock()
	opened = true
	if s.err == nil {
		s.raw.in.resume()
	}
	s.mu.Unlock()
	s.target = t
	return t, nil
}

// Connected tells the peer that its target has been reached. Only the
// accepting side calls it.
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
	code, reason, err := readResult(&s.raw)
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

// WaitReadable blocks until Read has something to say, and holds no buffer
// meanwhile. It returns io.EOF when the peer has ended its direction.
func (s *Stream) WaitReadable() error {
	s.mu.Lock()
	err, deaf, ended := s.err, s.deaf, s.gotEnd
	s.mu.Unlock()
	switch {
	case deaf && err != nil:
		return err
	case ended:
		return io.EOF
	case s.remain > 0:
		return nil
	}
	if err := s.Result(); err != nil {
		return err
	}
	if _, err := io.ReadFull(&s.raw, s.header[:]); err != nil {
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
		return io.EOF
	}
	s.remain = n
	s.consumed(frameHeader)
	return nil
}

// Await has ready called in a goroutine of its own, once, when WaitReadable
// would not block for the first byte of what is next. It reports false, and
// does not call it, when that is so already. Only the reader calls it, and not
// again before ready has been called.
func (s *Stream) Await(ready func()) bool { return s.raw.in.await(ready) }

// Read reads data. It returns io.EOF only when the peer has ended its
// direction with CloseWrite; any other end is an error.
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

// View waits for data and shows some of it, which stays where it is until
// Take. Errors are those of Read. The bytes must not be changed.
func (s *Stream) View() ([]byte, error) {
	if err := s.WaitReadable(); err != nil {
		return nil, err
	}
	b, err := s.raw.in.view(s.remain)
	if err == io.EOF {
		return nil, s.cutShort()
	} else if err != nil {
		return nil, s.fail(err)
	}
	return b, nil
}

// Take removes n bytes that View has shown.
func (s *Stream) Take(n int) {
	s.raw.take(n)
	s.remain -= n
	s.consumed(n)
}

// cutShort ends a stream that stopped without its end marker. The peer says
// why on the control stream, which may be a moment behind.
func (s *Stream) cutShort() error {
	select {
	case <-s.done:
	case <-time.After(reasonGrace):
	}
	return s.fail(&ResetError{Code: Reset, Remote: true})
}

// streamHeadroom is what goes before a frame's data.
const streamHeadroom = yamuxHeader + frameHeader

// writeRaw writes b[yamuxHeader:] to the stream, of whatever meaning.
func (s *Stream) writeRaw(b []byte) error {
	return s.session.conn.writeData(s.yamux.StreamID(), b)
}

// Headroom is how many bytes WriteBuffer wants before the data.
func (s *Stream) Headroom() int { return streamHeadroom }

// WriteBuffer writes b[Headroom():] without copying it first, and uses the
// rest of b as scratch space: b's contents are undefined afterwards. It
// returns how many bytes of data were written. It blocks while the peer's
// window is full.
func (s *Stream) WriteBuffer(b []byte) (int, error) {
	total := 0
	for len(b) > streamHeadroom {
		n, err := s.reserve(min(len(b)-streamHeadroom, s.session.link.frame()))
		if err != nil {
			return total, err
		}
		s.putData(b, n)
		if err := s.writeRaw(b[:streamHeadroom+n]); err != nil {
			return total, s.writeFailed(err)
		}
		total += n
		b = b[n:]
	}
	return total, nil
}

// Room is how much is best written at once now: without waiting, and in one
// frame.
func (s *Stream) Room() int {
	return min(int(s.credit.Load())-frameHeader, s.session.link.frame())
}

// WriteOwned writes the n bytes of data in b, and takes b over: nothing of it
// is copied.
func (s *Stream) WriteOwned(b *tunnel.Buffer, n int) (int, error) {
	first, err := s.reserve(min(n, s.session.link.frame()))
	if err != nil || first < n {
		defer b.Free()
		if err != nil {
			return 0, err
		}
		s.credit.Add(int64(frameHeader + first)) // it takes several frames
		return s.WriteBuffer(b.Bytes[tunnel.BufferHeadroom-streamHeadroom : tunnel.BufferHeadroom+n])
	}
	from, to := s.frameData(b, n)
	if err := s.session.conn.lendData(s.yamux.StreamID(), b, from, to); err != nil {
		return 0, s.writeFailed(err)
	}
	return n, nil
}

// WriteFrom waits until little else waits to be sent, and then has read give
// something, and writes it; and again while there is much. read must not wait: it
// gives up to size bytes in a buffer that WriteFrom takes over, or none. Where the
// path or the peer's window takes only a little at a time, read is not called; Write
// is for that.
func (s *Stream) WriteFrom(read func(size int) (*tunnel.Buffer, int, error)) (n int, readErr, writeErr error) {
	if s.Room() < tunnel.WorthOwning {
		return 0, nil, nil
	}
	if err := s.writable(); err != nil {
		return 0, nil, err
	}
	bulk := &s.session.conn.bulk
	bulk.Lock()
	for range turnPieces {
		var k int
		k, readErr, writeErr = s.writePiece(read)
		n += k
		if k < tunnel.WorthOwning || readErr != nil || writeErr != nil {
			break
		}
	}
	bulk.Unlock()
	if writeErr != nil {
		writeErr = s.writeFailed(writeErr)
	}
	return n, readErr, writeErr
}

// turnPieces is how many pieces one stream may send before it is another's turn.
const turnPieces = 4

// writePiece is one piece of WriteFrom. conn.bulk is held.
func (s *Stream) writePiece(read func(size int) (*tunnel.Buffer, int, error)) (n int, readErr, writeErr error) {
	c := s.session.conn
	if s.Room() < tunnel.WorthOwning {
		return 0, nil, nil
	}
	if err := c.link.awaitLull(); err != nil {
		return 0, nil, err
	}
	room := s.takeFrame(tunnel.WorthOwning, min(c.link.frame(), tunnel.BufferSize))
	if room == 0 {
		return 0, nil, nil
	}
	b, n, readErr := read(room)
	s.credit.Add(int64(room - n))
	if n == 0 {
		s.credit.Add(frameHeader)
		return 0, readErr, nil
	}
	from, to := s.frameData(b, n)
	if n >= tunnel.WorthOwning {
		return n, readErr, c.lendNow(s.yamux.StreamID(), b, from, to)
	}
	defer b.Free()
	return n, readErr, c.writeNow(s.yamux.StreamID(), b.Bytes[from:to])
}

// frameData makes a frame of the n bytes of data in b, and says where in b it is,
// with room for the header of yamux.
func (s *Stream) frameData(b *tunnel.Buffer, n int) (from, to int) {
	from = tunnel.BufferHeadroom - streamHeadroom
	s.putData(b.Bytes[from:], n)
	return from, tunnel.BufferHeadroom + n
}

// putData makes the header of the n bytes behind b[:streamHeadroom], all but
// yamux's.
func (s *Stream) putData(b []byte, n int) {
	putFrame(b[yamuxHeader:], frameData, n)
}

// writeFailed ends the stream because the link has ended.
func (s *Stream) writeFailed(err error) error {
	err = s.fail(err)
	<-s.done // so that Watch's gone has been called
	return err
}

// Write writes a copy of p. WriteBuffer saves the copy.
func (s *Stream) Write(p []byte) (int, error) {
	b := make([]byte, streamHeadroom+min(len(p), MaxFrame))
	total := 0
	for len(p) > 0 {
		k := copy(b[streamHeadroom:], p)
		n, err := s.WriteBuffer(b[:streamHeadroom+k])
		total += n
		if err != nil {
			return total, err
		}
		p = p[k:]
	}
	return total, nil
}

// writable fails where the stream, or this direction of it, has ended.
func (s *Stream) writable() error {
	if closed(s.done) { // and Watch's gone has been called
		return s.cause(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sentEnd {
		return errEnded
	}
	return nil
}

// CloseWrite ends this side's direction: the peer reads io.EOF after all that
// was written.
func (s *Stream) CloseWrite() error {
	if closed(s.done) { // and Watch's gone has been called
		return s.cause(nil)
	}
	s.mu.Lock()
	ended := s.sentEnd
	s.sentEnd = true
	s.mu.Unlock()
	if ended {
		return nil
	}
	b := make([]byte, streamHeadroom)
	putFrame(b[yamuxHeader:], frameEnd, 0)
	if err := s.writeRaw(b); err != nil {
		return s.fail(err)
	}
	return nil
}

// Watch registers two functions, either may be nil. gone is called, once, when
// the stream ends other than well, from a goroutine that must not be held up;
// at once when that has happened already. blocked is called now and then while
// a Write waits for the peer's window; its error ends the Write.
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

// Reset ends the stream in both directions at once; the application at the
// other end sees a reset.
func (s *Stream) Reset(code Code) { s.end(&ResetError{Code: code}, endLocal) }

// Abort is Reset for a connection that was reset.
func (s *Stream) Abort() { s.Reset(Reset) }

// how a stream ended.
type endKind int

const (
	endLocal   endKind = iota // tell the peer
	endRemote                 // the peer told us
	endRefused                // the result said it
	endLost                   // with the session
)

// end ends the stream for the first reason that it is given.
func (s *Stream) end(err error, kind endKind) {
	s.mu.Lock()
	if s.err != nil || s.gotEnd && s.sentEnd && kind != endLost {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.deaf = s.deaf || kind == endLocal || kind == endRefused
	// Of what the peer sent before its reset, or before the link was lost,
	// all has arrived, and can be read.
	s.raw.in.stop()
	gone := s.gone
	s.gone = nil
	s.mu.Unlock()
	if gone != nil {
		gone()
	}
	close(s.done)
	if kind == endLocal {
		s.session.control.send(controlFrame{controlReset, s.yamux.StreamID(), uint32(codeOf(err))})
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
// protocol, and gives the reason for it.
func (s *Stream) fail(err error) error {
	kind := endLocal
	if err = s.session.cause(err); errors.Is(err, ErrSessionLost) {
		kind = endLost
	}
	s.end(err, kind)
	return s.cause(err)
}

// cause prefers the reason for the stream's end to what yamux made of it.
func (s *Stream) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if err != nil {
		return s.session.cause(err)
	}
	return nil
}

// Close gives the stream back. After both directions have ended it is a
// formality; otherwise it is a Reset.
func (s *Stream) Close() error {
	s.mu.Lock()
	again, clean := s.closed, s.gotEnd && s.sentEnd && s.err == nil
	s.closed, s.deaf = true, true
	s.mu.Unlock()
	if again {
		return nil
	}
	if !clean {
		s.Reset(Cancelled)
	}
	s.session.forget(s)
	return s.yamux.Close()
}
