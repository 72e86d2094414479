package ws

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
)

// headroom is the longest frame header: 2 bytes, 8 of length, 4 of mask.
const headroom = 14

// errClosed is what is left to say after our own Close frame.
var errClosed = fmt.Errorf("websocket: closed: %w", net.ErrClosed)

// errOpcode reports a data message of neither type.
var errOpcode = errors.New("websocket: a message is text or binary")

// ErrPingPending reports that earlier pings are still waiting to be written.
var ErrPingPending = errors.New("websocket: earlier pings are not sent yet")

// maxPendingPings bounds our own pings that wait to be written.
const maxPendingPings = 4

// maxPendingPongs bounds the pongs that wait. When there are so many, the reader
// stops reading until they have left.
const maxPendingPongs = 16

// Headroom returns how many bytes WriteBuffer needs in front of the payload.
func (c *Conn) Headroom() int { return headroom }

// WriteBuffer sends b[Headroom():] as one unfragmented message with a single
// Write to the net.Conn and without a copy. The first Headroom() bytes are
// overwritten by the frame's header. The payload is the same on return as it
// was, but another goroutine must not look at it meanwhile: it may be masked
// in place. b is not kept.
//
// An error, other than of the arguments, wraps net.ErrClosed when our Close
// frame has been queued or sent, by Close or in answer to the peer. After any
// other the connection can only be closed.
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

// writeBuffers hold a header and what can go with it in the same Write.
var writeBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteMessage sends p as one unfragmented message. p is neither changed nor
// kept; unlike WriteBuffer it copies. Errors are those of WriteBuffer.
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

// beginWrite takes writeMu for one message, behind the control frames that
// wait. It does not take it when it returns an error.
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

// newMask draws the next frame's key into maskKey and reports whether there
// is anything to mask with it. writeMu is held.
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
	if _, err := c.writeConn(b); err != nil {
		c.writeErr = fmt.Errorf("websocket: writing: %w", err)
		c.controlMu.Lock()
		c.stuck = true
		c.room.Broadcast()
		c.controlMu.Unlock()
	}
	return c.writeErr
}

// putHeader writes a frame's header so that it ends at b[end], and returns
// where it begins. key matters only if masked.
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

// controlFrame is a control frame that waits to be written.
type controlFrame struct {
	op      byte
	length  uint8
	payload [maxControlPayload]byte
}

// Ping queues a ping with payload, at most 125 bytes, and does not wait for
// it to be sent. The answer goes to the function set with OnPong.
// ErrPingPending means that several pings wait already: the connection is not
// taking what is written to it.
func (c *Conn) Ping(payload []byte) error {
	if len(payload) > maxControlPayload {
		return fmt.Errorf("websocket: ping of %d bytes, at most %d are allowed", len(payload), maxControlPayload)
	}
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if c.closing || c.stuck {
		return errClosed
	}
	if c.pings >= maxPendingPings {
		return ErrPingPending
	}
	c.pings++
	c.enqueue(opPing, payload)
	return nil
}

// queuePong answers a ping. The reader must not wait for a write, or two
// peers that only read when they have written would stop each other; it does
// wait when more pings come than the peer takes pongs.
func (c *Conn) queuePong(payload []byte) {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if c.opts.LatestPongOnly && c.pongs > 0 {
		for i := range c.queue {
			if f := &c.queue[i]; f.op == opPong {
				f.length = uint8(copy(f.payload[:], payload))
				return
			}
		}
	}
	for c.pongs >= maxPendingPongs && !c.closing && !c.stuck {
		c.room.Wait()
	}
	if c.closing || c.stuck {
		return // nothing may follow a Close frame
	}
	c.pongs++
	c.enqueue(opPong, payload)
}

// queueClose queues the one Close frame we send and reports whether it is the
// first. Nothing is written behind it.
func (c *Conn) queueClose(payload []byte) bool {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if c.closing || c.stuck {
		return false
	}
	c.enqueue(opClose, payload)
	c.closing = true
	c.room.Broadcast()
	return true
}

// enqueue adds a control frame to the queue and sees that it leaves even if
// nobody writes. controlMu is held.
func (c *Conn) enqueue(op byte, payload []byte) {
	f := controlFrame{op: op}
	f.length = uint8(copy(f.payload[:], payload))
	c.queue = append(c.queue, f)
	if !c.flushing {
		c.flushing = true
		c.flusher.Add(1)
		go c.flush()
	}
}

// flush writes queued control frames between the messages of others until the
// queue is empty. There is at most one.
func (c *Conn) flush() {
	defer c.flusher.Done()
	for {
		c.writeMu.Lock()
		c.writeControl()
		c.writeMu.Unlock()

		c.controlMu.Lock()
		if len(c.queue) == 0 || c.stuck {
			c.flushing = false
			c.controlMu.Unlock()
			return
		}
		c.controlMu.Unlock()
	}
}

// writeControl writes the queued control frames with one Write, and reports
// whether our Close frame has left. writeMu is held.
func (c *Conn) writeControl() (closing bool, err error) {
	c.controlMu.Lock()
	c.taken, c.queue = c.queue, c.taken[:0]
	c.pongs, c.pings = 0, 0
	closing = c.closing
	c.room.Broadcast()
	c.controlMu.Unlock()
	if c.writeErr != nil || len(c.taken) == 0 {
		return closing, c.writeErr
	}
	out := c.scratch[:0]
	for i := range c.taken {
		f := &c.taken[i]
		var b [headroom + maxControlPayload]byte
		p := b[headroom : headroom+copy(b[headroom:], f.payload[:f.length])]
		masked, key := c.newMask()
		at := putHeader(b[:], headroom, f.op, len(p), c.client, c.maskKey)
		if masked {
			maskBytes(key, p)
		}
		out = append(out, b[at:headroom+len(p)]...)
	}
	c.scratch = out
	return closing, c.send(out)
}
