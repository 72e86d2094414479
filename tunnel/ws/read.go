package ws

import (
	"io"
)

// NextMessage discards the rest of the current message, waits for the first frame of the next one, and
// returns its type. It handles the control frames that come before it.
//
// The error is a *CloseError if the peer closed, a *ProtocolError if the peer broke the protocol (a
// Close frame says so to it), wraps io.ErrUnexpectedEOF if the connection ended without a Close frame,
// and net.ErrClosed after Close or CloseNow. It is never io.EOF. Data that arrived before is read
// before the error. Close must be called after each of them.
func (c *Conn) NextMessage() (Opcode, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	return c.nextMessage()
}

// nextMessage is NextMessage with readMu held.
func (c *Conn) nextMessage() (Opcode, error) {
	for c.inside {
		more, err := c.payloadLeft()
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
		if c.start == c.end {
			if err := c.fill(1); err != nil {
				return 0, err
			}
		}
		n := int(min(int64(c.end-c.start), c.remain))
		p := c.buf[c.start : c.start+n]
		c.start += n
		if err := c.accept(p); err != nil {
			return 0, err
		}
	}
	if err := c.nextDataFrame(); err != nil {
		return 0, err
	}
	return c.op, nil
}

// Read reads payload of the current message as it arrives; the borders of its fragments do not show. At
// the end of the message, and before the first NextMessage, it returns io.EOF; for an empty message it
// does so at once. Other errors are those of NextMessage.
//
// If nothing is buffered, and both p and the rest of the frame are large, the bytes go from the
// net.Conn to p without another copy.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	more, err := c.payloadLeft()
	if err != nil {
		return 0, err
	}
	if !more {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.remain))
	if c.start == c.end {
		if n >= readBufferSize {
			n, err = c.receive(p[:n])
			if err != nil {
				return 0, err
			}
			if err := c.accept(p[:n]); err != nil {
				return 0, err
			}
			return n, nil
		}
		// The rest of the frame is short: read the next header with it.
		if err := c.fill(1); err != nil {
			return 0, err
		}
	}
	n = copy(p[:n], c.buf[c.start:c.end])
	c.start += n
	if err := c.accept(p[:n]); err != nil {
		return 0, err
	}
	return n, nil
}

// payloadLeft goes to the next byte of the current message's payload, across the borders of frames, and
// reports whether there is one. readMu is held, as in all functions below.
func (c *Conn) payloadLeft() (bool, error) {
	if c.readErr != nil {
		return false, c.readErr
	}
	for c.inside && c.remain == 0 {
		if c.fin {
			c.inside = false
			break
		}
		if err := c.nextDataFrame(); err != nil {
			return false, err
		}
	}
	return c.inside, nil
}

// accept unmasks and checks p, the next bytes of the current frame's payload.
func (c *Conn) accept(p []byte) error {
	c.remain -= int64(len(p))
	c.key = maskBytes(c.key, p)
	if c.op == OpText && c.opts.ValidateUTF8 {
		if !c.text.write(p) {
			return c.fail(StatusInvalidPayload, "text is not valid UTF-8")
		}
		return c.checkTextEnd()
	}
	return nil
}

// checkTextEnd fails the connection if a text message has ended inside a code point.
func (c *Conn) checkTextEnd() error {
	if c.remain == 0 && c.fin && !c.text.complete() {
		return c.fail(StatusInvalidPayload, "text ends inside a code point")
	}
	return nil
}

// nextDataFrame handles control frames and reads the header of the next data frame: the first of a
// message, or inside a message a continuation.
func (c *Conn) nextDataFrame() error {
	for {
		if data, err := c.nextFrame(); data || err != nil {
			return err
		}
	}
}

// nextFrame reads the next frame's header and, of a control frame, reads and handles all. It reports
// whether it is a data frame.
func (c *Conn) nextFrame() (data bool, err error) {
	if c.readErr != nil {
		return false, c.readErr
	}
	h, err := c.readHeader()
	if err != nil {
		return false, err
	}
	if h.opcode >= opClose {
		return false, c.control(h)
	}
	if !c.inside {
		c.op = Opcode(h.opcode)
		c.text = utf8Checker{}
	}
	c.inside = true
	c.fin = h.fin
	c.remain = h.length
	c.key = h.key
	if c.op == OpText && c.opts.ValidateUTF8 {
		return true, c.checkTextEnd() // an empty last fragment
	}
	return true, nil
}
