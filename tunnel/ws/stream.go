package ws

import "fmt"

// The methods here read the payload of all messages as one stream of bytes, for a peer whose message
// boundaries mean nothing, or wait for it. They may be mixed with NextMessage and Read.

// WaitStream blocks until ReadStream returns a byte or an error at once. It uses no memory but the
// connection's own buffer, whatever length a frame announces. Errors are those of NextMessage.
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

// WaitMessage blocks until Read returns a byte, the end of the message, or an error at once.
func (c *Conn) WaitMessage() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	more, err := c.payloadLeft()
	if err != nil || !more || c.start < c.end {
		return err
	}
	return c.fill(1)
}

// ReadStream reads payload across the borders of messages. It blocks until there is some, and then
// returns all that has arrived and fits into p, of any number of frames. It handles the control frames
// between them. Errors are those of NextMessage; data that arrived before is returned first.
//
// If p has 4 KiB or more, and nothing is buffered, one read of the net.Conn fills p, headers included,
// and the payload is moved together inside p: many small frames cost one system call. Bytes of p after
// the payload are overwritten.
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

// betweenFrames reports whether the next byte is the first one of a header. At the end of a message it
// leaves the message. readMu is held.
func (c *Conn) betweenFrames() bool {
	if c.inside && c.remain == 0 && c.fin {
		c.inside = false
	}
	return !c.inside || c.remain == 0
}

// receiveStream reads from the connection into p and moves the payload to the start of p. The beginning
// of an incomplete header or control frame stays buffered. It may return 0 without an error. readMu is
// held.
func (c *Conn) receiveStream(p []byte) (int, error) {
	m, err := c.receive(p)
	if err != nil {
		return 0, err
	}
	own := c.buf
	c.buf, c.start, c.end = p, 0, m
	// takeBuffered copies the payload towards the start of p, and never over bytes that it has not
	// looked at.
	n := c.takeBuffered(p[:m])
	rest := c.buf[c.start:c.end]
	if c.readErr != nil {
		rest = nil // nothing after an error is read
	}
	c.buf, c.start, c.end = own, 0, copy(own, rest)
	if c.end < len(rest) {
		// Only a header or a control frame can be left, and those fit.
		return n, fmt.Errorf("websocket: %d bytes behind a frame do not fit the buffer", len(rest))
	}
	return n, nil
}

// takeBuffered moves buffered payload to p, across the borders of frames, and returns how much. It does
// not read from the connection. readMu is held.
func (c *Conn) takeBuffered(p []byte) int {
	n := 0
	for c.readErr == nil {
		if c.betweenFrames() {
			if !c.frameBuffered() {
				break
			}
			if _, err := c.nextFrame(); err != nil {
				break // the error is in readErr
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
			break // text with invalid UTF-8 is not returned
		}
		n += k
	}
	return n
}

// frameBuffered reports whether nextFrame would not read from the connection: the next frame's header is
// buffered, or all of a control frame. readMu is held.
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

// Buffered reports whether bytes were read from the connection that no method has returned yet. There may
// be more that are not read yet, and while another goroutine reads it returns false.
func (c *Conn) Buffered() bool {
	if !c.readMu.TryLock() {
		return false
	}
	defer c.readMu.Unlock()
	return c.start < c.end
}
