package mux

import (
	"time"

	"adit/tunnel"
)

// streamHeadroom is the length of the headers before a frame's data.
const streamHeadroom = yamuxHeader + frameHeader

// blockedEvery is how often a Write that waits for credit asks whether it still
// should.
const blockedEvery = 250 * time.Millisecond

// maxFrames is how many frames one stream may send in WriteFrom before it is
// another stream's turn.
const maxFrames = 4

// writeRaw writes b[yamuxHeader:] to the stream, of whatever meaning.
func (s *Stream) writeRaw(b []byte) error { return s.core.adapter.writeData(s.id(), b, s.done) }

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

// Headroom is how many bytes WriteBuffer wants before the data.
func (s *Stream) Headroom() int { return streamHeadroom }

// WriteBuffer writes b[Headroom():] without copying it first, and uses the rest
// of b as scratch space: the contents of b are undefined afterwards. It returns
// how many bytes of data were written. It blocks while the peer's window is
// full.
func (s *Stream) WriteBuffer(b []byte) (int, error) {
	total := 0
	for len(b) > streamHeadroom {
		n, err := s.reserve(min(len(b)-streamHeadroom, s.core.frameSize()))
		if err != nil {
			return total, err
		}
		putFrame(b[yamuxHeader:], frameData, n)
		if err := s.writeRaw(b[:streamHeadroom+n]); err != nil {
			return total, s.writeFailed(err)
		}
		total += n
		b = b[n:]
	}
	return total, nil
}

// Room is how many bytes are best written at once now: without waiting, and in
// one frame.
func (s *Stream) Room() int {
	return min(int(s.credit.bytes.Load())-frameHeader, s.core.frameSize())
}

// WriteOwned writes the n bytes of data in b without a copy, and takes b over.
func (s *Stream) WriteOwned(b *tunnel.Buffer, n int) (int, error) {
	first, err := s.reserve(min(n, s.core.frameSize()))
	if err != nil || first < n {
		defer b.Free()
		if err != nil {
			return 0, err
		}
		s.credit.putBack(frameHeader + first) // it takes several frames
		return s.WriteBuffer(b.Bytes[tunnel.BufferHeadroom-streamHeadroom : tunnel.BufferHeadroom+n])
	}
	from, to := frameIn(b, n)
	if err := s.core.adapter.writeOwned(s.id(), b, from, to, s.done); err != nil {
		return 0, s.writeFailed(err)
	}
	return n, nil
}

// WriteFrom waits until the link's queue is short, has read give bytes, and
// writes them; and again, up to maxFrames times, while bulk data comes. read must
// not wait: it returns up to size bytes in a buffer that WriteFrom takes over, or
// none. Where the path or the peer's window takes only small frames at present,
// read is not called; Write is for that.
func (s *Stream) WriteFrom(read func(size int) (*tunnel.Buffer, int, error)) (n int, readErr, writeErr error) {
	if s.Room() < tunnel.WorthOwning {
		return 0, nil, nil
	}
	if err := s.writable(); err != nil {
		return 0, nil, err
	}
	if err := s.core.adapter.takeTurn(s.done); err != nil {
		return 0, nil, s.writeFailed(err)
	}
	for range maxFrames {
		var k int
		k, readErr, writeErr = s.writeFrameFrom(read)
		n += k
		if k < tunnel.WorthOwning || readErr != nil || writeErr != nil {
			break
		}
	}
	s.core.adapter.endTurn()
	if writeErr != nil {
		writeErr = s.writeFailed(writeErr)
	}
	return n, readErr, writeErr
}

// writeFrameFrom writes one frame of WriteFrom, whose turn it is.
func (s *Stream) writeFrameFrom(read func(size int) (*tunnel.Buffer, int, error)) (n int, readErr, writeErr error) {
	if s.Room() < tunnel.WorthOwning {
		return 0, nil, nil
	}
	if err := s.core.link.WaitLowWatermark(s.done); err != nil {
		return 0, nil, err
	}
	room := s.credit.takeFrame(tunnel.WorthOwning, min(s.core.frameSize(), tunnel.BufferSize))
	if room == 0 {
		return 0, nil, nil
	}
	b, n, readErr := read(room)
	s.credit.putBack(room - n)
	if n == 0 {
		s.credit.putBack(frameHeader)
		return 0, readErr, nil
	}
	from, to := frameIn(b, n)
	if n >= tunnel.WorthOwning {
		return n, readErr, s.core.adapter.writeOwnedNow(s.id(), b, from, to, s.done)
	}
	defer b.Free()
	return n, readErr, s.core.adapter.writeNow(s.id(), b.Bytes[from:to], s.done)
}

// frameIn makes a frame of the n bytes of data in b, and returns where in b it
// is, with room for yamux's header.
func frameIn(b *tunnel.Buffer, n int) (from, to int) {
	from = tunnel.BufferHeadroom - streamHeadroom
	putFrame(b.Bytes[from+yamuxHeader:], frameData, n)
	return from, tunnel.BufferHeadroom + n
}

// reserve waits until at least one byte may be sent, and takes credit for up to
// want bytes.
func (s *Stream) reserve(want int) (int, error) {
	var tick *time.Timer
	var ticks <-chan time.Time
	for {
		if err := s.writable(); err != nil {
			return 0, err
		}
		if n := s.credit.takeFrame(1, want); n > 0 {
			return n, nil
		}
		if tick == nil {
			tick = time.NewTimer(blockedEvery)
			defer tick.Stop()
			ticks = tick.C
		}
		select {
		case <-s.credit.added:
		case <-s.done:
		case <-ticks:
			tick.Reset(blockedEvery)
			if err := s.stillWanted(); err != nil {
				return 0, err
			}
		}
	}
}

// stillWanted asks the function that Watch registered whether a Write that waits
// should go on.
func (s *Stream) stillWanted() error {
	s.mu.Lock()
	blocked := s.blocked
	s.mu.Unlock()
	if blocked == nil {
		return nil
	}
	return blocked()
}

// writable returns an error if the stream, or this direction of it, has ended.
func (s *Stream) writable() error {
	if closed(s.done) { // and the gone function of Watch has been called
		return s.cause(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sentEnd {
		return errWriteAfterEnd
	}
	return nil
}

// writeFailed ends the stream because the link has ended, or returns why the
// stream has ended while it waited for the link.
func (s *Stream) writeFailed(err error) error {
	err = s.fail(err)
	<-s.done // so that the gone function of Watch has been called
	return err
}

// CloseWrite ends this side's direction: the peer reads io.EOF after all that was
// written.
func (s *Stream) CloseWrite() error {
	if closed(s.done) { // and the gone function of Watch has been called
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
