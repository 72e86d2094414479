package ws

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
)

// headroom is the length of the longest frame header: 2 bytes, 8 of length, 4 of mask.
const headroom = 14

// newMask draws the next frame's key into maskKey and reports whether the payload has to be masked
// with it. writeMu is held.
func (c *Conn) newMask() (bool, uint32) {
	if !c.client || c.zeroMask {
		return false, 0
	}
	rand.Read(c.maskKey[:]) // never fails
	key := binary.LittleEndian.Uint32(c.maskKey[:])
	return key != 0, key
}

// send writes b to the connection. writeMu is held.
func (c *Conn) send(b []byte) error {
	if c.writeErr != nil {
		return c.writeErr
	}
	if _, err := c.nc.Write(b); err != nil {
		c.writeErr = fmt.Errorf("websocket: writing: %w", err)
		c.controlMu.Lock()
		c.stuck = true
		c.room.Broadcast()
		c.controlMu.Unlock()
	}
	return c.writeErr
}

// putHeader writes the header of an unfragmented frame so that it ends at b[end], and returns where it
// begins. key is used only if masked.
func putHeader(b []byte, end int, op byte, length int, masked bool, key [4]byte) int {
	var maskBit byte
	if masked {
		maskBit = 0x80
		end -= 4
		copy(b[end:], key[:])
	}
	switch {
	case length <= 125:
		end -= 2
		b[end+1] = maskBit | byte(length)
	case length <= math.MaxUint16:
		end -= 4
		b[end+1] = maskBit | 126
		binary.BigEndian.PutUint16(b[end+2:], uint16(length))
	default:
		end -= 10
		b[end+1] = maskBit | 127
		binary.BigEndian.PutUint64(b[end+2:], uint64(length))
	}
	b[end] = 0x80 | op
	return end
}
