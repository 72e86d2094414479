package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// control handles a received control frame, whose header and payload are at the start of the buffer.
// readMu is held.
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

// peerClosed handles the payload of the peer's Close frame, and answers it. Nothing after it is read as
// frames. readMu is held.
func (c *Conn) peerClosed(p []byte) error {
	if len(p) == 0 {
		c.queueClose(nil)
		c.readErr = &CloseError{Code: StatusNoStatus}
		return c.readErr
	}
	if len(p) == 1 {
		return c.fail(StatusProtocolError, "close payload of one byte")
	}
	code := StatusCode(binary.BigEndian.Uint16(p))
	if !code.sendable() {
		return c.fail(StatusProtocolError, "bad close code")
	}
	if !utf8.Valid(p[2:]) {
		return c.fail(StatusInvalidPayload, "close reason is not valid UTF-8")
	}
	c.queueClose(p[:2])
	c.readErr = &CloseError{Code: code, Reason: string(p[2:])}
	return c.readErr
}
