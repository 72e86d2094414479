package ws

import "fmt"

// The methods here read the payload of all messages as one stream of bytes,
// for a peer that has no use for messages, or wait for it. They may be mixed with NextMessage
// and Read.

// WaitStream blocks until ReadStream has a byte or an error to return. It
// takes no more than the connection's own buffer, whatever is announced.
// Errors are those of NextMessage.
func (c *Conn) WaitStream() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		if c.readErr != nil {
			return c.readErr
		}
		if !c.betweenFrames() {
			if c.start < c.end {
				return nil
			}
			return c.fill(1)
		}
		if _, err := c.nextFrame(); err != nil {
			return err
		}
	}
}

// WaitMessage is WaitStream for Read: it blocks until Read has a byte, the end of
// the message or an error to return.
func (c *Conn) WaitMessage() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	more, err := c.payloadLeft()
	if err != nil || !more || c.start < c.end {
		return err
	}
	return c.fill(1)
}

// ReadStream reads payload without regard to messages. It blocks until there
// is some and then takes all that has arrived and fits, of as many frames as
// it may be. Control frames are dealt with on the way. Errors are those of
// NextMessage; what arrived before is returned first.
//
// When p has 4 KiB or more, and nothing is buffered, one read of the net.Conn
// fills p, headers and all, and the payload is moved together inside p: so
// many small frames cost one system call. Bytes of p behind the payload are
// overwritten.
func (c *Conn) ReadStream(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := c.takeBuffered(p); n > 0 {
			return n, nil
		}
		if c.readErr != nil {
			return 0, c.readErr
		}
		var n int
		var err error
		switch {
		case c.start == c.end && len(p) >= readBufferSize:
			n, err = c.receiveStream(p)
		case c.betweenFrames():
			_, err = c.nextFrame()
		default:
			err = c.fill(1)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// betweenFrames reports whether the next byte is the first of a header. At the
// end of a message it leaves the message. readMu is held.
func (c *Conn) betweenFrames() bool {
	if c.inside && c.remain == 0 && c.fin {
		c.inside = false
	}
	return !c.inside || c.remain == 0
}

// receiveStream reads the connection into p and leaves the payload that came
// at its start; the beginning of a frame that is not complete stays buffered.
// It may return nothing without an error. readMu is held.
func (c *Conn) receiveStream(p []byte) (int, error) {
	m, err := c.receive(p)
	if err != nil {
		return 0, err
	}
	own := c.buf
	c.buf, c.start, c.end = p, 0, m
	// The payload is copied towards the start of p and never overtakes what
	// is still to be read of it.
	n := c.takeBuffered(p[:m])
	rest := c.buf[c.start:c.end]
	if c.readErr != nil {
		rest = nil // nobody will look at it
	}
	c.buf, c.start, c.end = own, 0, copy(own, rest)
	if c.end < len(rest) {
		// A header or a control frame is all that can be left, and that fits.
		return n, fmt.Errorf("websocket: %d bytes behind a frame do not fit the buffer", len(rest))
	}
	return n, nil
}

// takeBuffered moves payload that is buffered to p, across frames, and returns
// how much. It never reads the connection. readMu is held.
func (c *Conn) takeBuffered(p []byte) int {
	n := 0
	for c.readErr == nil {
		if c.betweenFrames() {
			if !c.frameBuffered() {
				break
			}
			if _, err := c.nextFrame(); err != nil {
				break // it is in readErr
			}
			continue
		}
		k := int(min(int64(min(len(p)-n, c.end-c.start)), c.remain))
		if k == 0 {
			break
		}
		got := p[n : n+k]
		if &got[0] != &c.buf[c.start] {
			copy(got, c.buf[c.start:])
		}
		c.start += k
		if c.accept(got) != nil {
			break // of text that is not UTF-8 nothing is passed on
		}
		n += k
	}
	return n
}

// frameBuffered reports whether nextFrame can do its work without reading:
// all of the next frame's header is buffered, and of a control frame all.
// readMu is held.
func (c *Conn) frameBuffered() bool {
	have := c.end - c.start
	if have < 2 {
		return false
	}
	b0, b1 := c.buf[c.start], c.buf[c.start+1]
	need := 2
	switch length := b1 & 0x7f; {
	case b0&0x0f >= opClose:
		need += min(int(length), maxControlPayload)
	case length == 126:
		need += 2
	case length == 127:
		need += 8
	}
	if b1&0x80 != 0 {
		need += 4
	}
	return have >= need
}

// SendClose sends our Close frame behind what has been written, without
// waiting, unless one has been sent already: in answer to the peer's, or to a
// fault of it. Nothing can be written behind it, but reading goes on: the peer
// may send until its own Close frame, which NextMessage, Read and ReadStream
// report as a *CloseError. This is as near as a WebSocket comes to TCP's
// half-close. Close is still to be called. code and reason are as for Close.
func (c *Conn) SendClose(code StatusCode, reason string) {
	c.queueClose(closePayload(code, reason))
}

// Buffered reports whether bytes have been read from the connection that no
// method has given out yet. There may be more than it knows of, and while
// another goroutine reads it reports none.
func (c *Conn) Buffered() bool {
	if !c.readMu.TryLock() {
		return false // Close reads
	}
	defer c.readMu.Unlock()
	return c.start < c.end
}
