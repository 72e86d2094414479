package ws

import (
	"errors"
	"fmt"
)

// ErrPingPending reports that earlier pings still wait to be written.
var ErrPingPending = errors.New("websocket: earlier pings are not sent yet")

// maxPendingPings bounds the number of our pings that wait to be written.
const maxPendingPings = 4

// maxPendingPongs bounds the number of pongs that wait to be written. When there are as many, the reader
// stops until they have been written.
const maxPendingPongs = 16

// Ping queues a ping with payload, at most 125 bytes, and does not wait until it is sent. The answer
// goes to the function set with OnPong. ErrPingPending means that several pings wait already: the
// peer, or the path to it, does not take what is written.
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

// queuePong queues the answer to a ping. The reader does not wait until it is written: two peers that
// read only after they have written would block each other. It waits only when maxPendingPongs wait
// already, because the peer sends more pings than it takes pongs.
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

// queueClose queues our Close frame, unless it has been queued before. Nothing is written after it.
func (c *Conn) queueClose(payload []byte) {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if c.closing || c.stuck {
		return
	}
	c.enqueue(opClose, payload)
	c.closing = true
	c.room.Broadcast()
}

// enqueue adds a control frame to the queue, and starts the flusher goroutine, which writes it if no
// message is being written. controlMu is held.
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

// flush is the flusher goroutine: it writes queued control frames, between messages, until the queue is
// empty. There is at most one.
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

// writeControl writes the queued control frames with one Write, and reports whether our Close frame was
// among them or before them. writeMu is held.
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

// fail fails the connection because the peer broke the protocol (RFC 6455, section 7.1.7). readMu is held.
func (c *Conn) fail(code StatusCode, reason string) error {
	c.queueClose(closePayload(code, reason))
	c.readErr = &ProtocolError{code, reason}
	return c.readErr
}
