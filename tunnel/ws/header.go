package ws

import (
	"encoding/binary"
	"math"
)

// A header is the header of a frame (RFC 6455, section 5.2):
//
//	1 byte   FIN, 3 reserved bits, 4 bits of opcode
//	1 byte   MASK, 7 bits of length; 126 and 127 mean that 2 or 8 bytes of length follow
//	0, 2, 8  length, big-endian, at most 2^63-1
//	0, 4     masking key, if MASK is set: by clients always, by servers never
type header struct {
	fin    bool
	opcode byte
	length int64
	key    uint32 // in the order of maskBytes
}

// readHeader reads and checks the next frame's header. It checks the first two bytes before it waits for
// more. After an error of the connection, such as a deadline, it can be called again. readMu is held.
func (c *Conn) readHeader() (header, error) {
	if err := c.fill(2); err != nil {
		return header{}, err
	}
	b0, b1 := c.buf[c.start], c.buf[c.start+1]
	h := header{fin: b0&0x80 != 0, opcode: b0 & 0x0f}
	masked, length := b1&0x80 != 0, b1&0x7f
	if fault := c.headerFault(b0&0x70, h, masked, length); fault != "" {
		return h, c.fail(StatusProtocolError, fault)
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
	if h.opcode >= opClose {
		// The header of a control frame stays in the buffer until the payload is there, too.
		return h, c.fill(size + int(h.length))
	}
	c.start += size
	return h, nil
}

// headerFault returns what is wrong with a header's first two bytes, or "". length is its 7 bits of
// length.
func (c *Conn) headerFault(reserved byte, h header, masked bool, length byte) string {
	isControl := h.opcode >= opClose
	switch {
	case reserved != 0:
		return "reserved bits are set"
	case h.opcode > byte(OpBinary) && h.opcode < opClose || h.opcode > opPong:
		return "unknown opcode"
	case isControl && !h.fin:
		return "fragmented control frame"
	case isControl && length > maxControlPayload:
		return "control frame is too long"
	case h.opcode == opContinuation && !c.inside:
		return "continuation of no message"
	case !isControl && h.opcode != opContinuation && c.inside:
		return "new message inside a message"
	case masked && c.client:
		return "masked frame from a server"
	case !masked && !c.client:
		return "unmasked frame from a client"
	}
	return ""
}
