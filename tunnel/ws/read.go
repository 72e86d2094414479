package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// NextMessage waits for the first frame of the next data message and returns
// its type. What is unread of the current message is discarded. Control
// frames are dealt with on the way.
//
// The error is a *CloseError when the peer closed, a *ProtocolError when it
// broke the protocol or a limit (it has been told so by a Close frame), wraps
// io.ErrUnexpectedEOF when the connection ended without a Close frame, and
// net.ErrClosed after Close or CloseNow. It is never io.EOF. Whatever arrived
// before is delivered before the error. Close is to be called after each of
// them.
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

// Read reads payload of the current message as it arrives, without regard to
// fragments. At the end of the message, and before the first NextMessage, it
// returns io.EOF; an empty message is io.EOF at once. Other errors are those
// of NextMessage.
//
// When nothing is buffered, and both p and the rest of the frame are large,
// the bytes go straight from the net.Conn to p.
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
		// A short rest is read together with the header behind it.
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

// payloadLeft goes to the next byte of the current message's payload, over
// the ends of frames, and reports whether there is one.
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

// accept unmasks p, the next bytes of the current frame's payload, and checks
// them.
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

// checkTextEnd fails a text message that ended inside a code point.
func (c *Conn) checkTextEnd() error {
	if c.remain == 0 && c.fin && !c.text.complete() {
		return c.fail(StatusInvalidPayload, "text ends inside a code point")
	}
	return nil
}

// nextDataFrame reads the header of the next frame that carries data: the
// first of a message when none is under way, else its continuation. Control
// frames before it are dealt with.
func (c *Conn) nextDataFrame() error {
	for {
		if data, err := c.nextFrame(); data || err != nil {
			return err
		}
	}
}

// nextFrame reads the next frame's header and deals with all of a control
// frame. It reports whether the frame carries data.
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

// header is a frame's header, RFC 6455 section 5.2.
type header struct {
	fin    bool
	opcode byte
	length int64
	key    uint32 // as maskBytes wants it
}

// readHeader reads and checks the next frame's header. What can be judged
// from the first two bytes is judged before more is awaited. An error of the
// connection, a deadline for one, leaves nothing half read.
func (c *Conn) readHeader() (header, error) {
	if err := c.fill(2); err != nil {
		return header{}, err
	}
	b0, b1 := c.buf[c.start], c.buf[c.start+1]
	h := header{fin: b0&0x80 != 0, opcode: b0 & 0x0f}
	masked, length := b1&0x80 != 0, b1&0x7f
	isControl := h.opcode >= opClose
	switch {
	case b0&0x70 != 0:
		return h, c.fail(StatusProtocolError, "reserved bits are set")
	case h.opcode > byte(OpBinary) && h.opcode < opClose || h.opcode > opPong:
		return h, c.fail(StatusProtocolError, "unknown opcode")
	case isControl && !h.fin:
		return h, c.fail(StatusProtocolError, "fragmented control frame")
	case isControl && length > maxControlPayload:
		return h, c.fail(StatusProtocolError, "control frame is too long")
	case h.opcode == opContinuation && !c.inside:
		return h, c.fail(StatusProtocolError, "continuation of no message")
	case !isControl && h.opcode != opContinuation && c.inside:
		return h, c.fail(StatusProtocolError, "new message inside a message")
	case masked && c.client:
		return h, c.fail(StatusProtocolError, "masked frame from a server")
	case !masked && !c.client:
		return h, c.fail(StatusProtocolError, "unmasked frame from a client")
	}
	size := 2
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	lengthEnd := size
	if masked {
		size += 4
	}
	if err := c.fill(size); err != nil {
		return h, err
	}
	b := c.buf[c.start : c.start+size]
	switch length {
	case 126:
		h.length = int64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		n := binary.BigEndian.Uint64(b[2:])
		if n > math.MaxInt64 {
			return h, c.fail(StatusProtocolError, "frame length over 63 bits")
		}
		h.length = int64(n)
	default:
		h.length = int64(length)
	}
	if masked {
		h.key = binary.LittleEndian.Uint32(b[lengthEnd:])
	}
	if isControl {
		// The header of a control frame stays until its payload is there, so
		// that the two are taken together.
		return h, c.fill(size + int(h.length))
	}
	c.start += size
	return h, nil
}

// control deals with a control frame whose header and payload are at the
// front of the buffer.
func (c *Conn) control(h header) error {
	size := 2
	if !c.client {
		size += 4
	}
	p := c.buf[c.start+size : c.start+size+int(h.length)]
	c.start += size + len(p)
	maskBytes(h.key, p)
	switch h.opcode {
	case opPing:
		c.queuePong(p)
	case opPong:
		if c.onPong != nil {
			c.onPong(p)
		}
	case opClose:
		return c.peerClosed(p)
	}
	return nil
}

// fill reads until at least n bytes are buffered.
func (c *Conn) fill(n int) error {
	for c.end-c.start < n {
		if c.start == c.end {
			c.start, c.end = 0, 0
			if len(c.buf) > readBufferSize {
				// It was made larger for what came with the handshake.
				c.buf = make([]byte, readBufferSize)
			}
		} else if c.start+n > len(c.buf) {
			c.end = copy(c.buf, c.buf[c.start:c.end])
			c.start = 0
		}
		m, err := c.receive(c.buf[c.end:])
		if err != nil {
			return err
		}
		c.end += m
	}
	return nil
}

// receive reads at least one byte from the connection.
func (c *Conn) receive(p []byte) (int, error) {
	for range 100 {
		n, err := c.nc.Read(p)
		if n > 0 {
			// An error that came with the bytes will come again.
			c.touch()
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("websocket: connection ended without a close frame: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return 0, fmt.Errorf("websocket: reading: %w", err)
		}
	}
	return 0, fmt.Errorf("websocket: reading: %w", io.ErrNoProgress)
}
