package ws

import (
	"errors"
	"fmt"
	"sync"
)

// errOpcode reports a message to be sent that is of neither type.
var errOpcode = errors.New("websocket: a message must be text or binary")

// Headroom returns how many bytes WriteBuffer needs before the payload.
func (c *Conn) Headroom() int { return headroom }

// WriteBuffer sends b[Headroom():] as one unfragmented message, with a single Write to the net.Conn and
// without a copy. The frame's header overwrites the first Headroom() bytes. The payload is unchanged on
// return, but no other goroutine may read it meanwhile: it may be masked in place. b is not kept.
//
// The error wraps net.ErrClosed if our Close frame has been queued or sent, by Close or in answer to
// the peer. After any other error, except of the arguments, the connection can only be closed.
func (c *Conn) WriteBuffer(op Opcode, b []byte) error {
	if op != OpText && op != OpBinary {
		return errOpcode
	}
	if len(b) < headroom {
		return fmt.Errorf("websocket: buffer of %d bytes has no room for the header", len(b))
	}
	if err := c.beginWrite(); err != nil {
		return err
	}
	defer c.writeMu.Unlock()
	payload := b[headroom:]
	masked, key := c.newMask()
	at := putHeader(b, headroom, byte(op), len(payload), c.client, c.maskKey)
	if masked {
		maskBytes(key, payload)
	}
	err := c.send(b[at:])
	if masked {
		maskBytes(key, payload)
	}
	return err
}

// writeBuffers hold a header and the payload that goes with it in the same Write.
var writeBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteMessage sends a copy of p as one unfragmented message. Errors are those of WriteBuffer.
func (c *Conn) WriteMessage(op Opcode, p []byte) error {
	if op != OpText && op != OpBinary {
		return errOpcode
	}
	if err := c.beginWrite(); err != nil {
		return err
	}
	defer c.writeMu.Unlock()
	buf := writeBuffers.Get().(*[32 << 10]byte)
	defer writeBuffers.Put(buf)
	masked, key := c.newMask()
	at := putHeader(buf[:], headroom, byte(op), len(p), c.client, c.maskKey)
	n := copy(buf[headroom:], p)
	if !masked {
		if err := c.send(buf[at : headroom+n]); err != nil || n == len(p) {
			return err
		}
		return c.send(p[n:])
	}
	key = maskBytes(key, buf[headroom:headroom+n])
	if err := c.send(buf[at : headroom+n]); err != nil {
		return err
	}
	for p = p[n:]; len(p) > 0; p = p[n:] {
		n = copy(buf[:], p)
		key = maskBytes(key, buf[:n])
		if err := c.send(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// beginWrite writes the queued control frames, and returns with writeMu held for one message, or with
// an error and without writeMu.
func (c *Conn) beginWrite() error {
	c.writeMu.Lock()
	closing, err := c.writeControl()
	if err == nil && closing {
		err = errClosed
	}
	if err != nil {
		c.writeMu.Unlock()
		return err
	}
	return nil
}
