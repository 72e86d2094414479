package mux

import (
	"encoding/binary"
	"sync/atomic"
)

// The parts of yamux's frame header that the adapter looks at; the format is
// in yamux's spec.md.
const (
	yamuxHeader       = 12
	yamuxData         = 0
	yamuxWindowUpdate = 1
	yamuxGoAway       = 3
	yamuxSYN          = 1
)

// yamuxConn stands between yamux and the link.
//
// Outwards it joins what belongs together: yamux writes a frame's header and
// body separately, and the frame that opens a stream before the first one with
// data, which follows at once.
//
// Inwards it lets no peer make yamux do what adit never asks for: pings (yamux
// starts a goroutine for each), frames above a bound (yamux allocates what the
// header announces), and more unread bytes than the session's flow control
// allows.
type yamuxConn struct {
	*link
	ended  func()       // called when the link is over, before yamux is told
	limit  int64        // the most that unread may reach
	unread atomic.Int64 // bytes of frames received and not yet consumed

	// Inbound: where in a frame the bytes read so far end.
	hdr  [yamuxHeader]byte
	have int // bytes of hdr
	body int // bytes left of the body

	// Outbound.
	pending  []byte // headers that wait for what follows them
	bodyNext bool   // the next Write is the body of the last header
}

// maxPending bounds the headers held back while many streams open at once.
const maxPending = 32 * yamuxHeader

func (c *yamuxConn) Read(p []byte) (int, error) {
	n, err := c.link.Read(p)
	if err == nil {
		err = c.inspect(p[:n])
	}
	if err != nil {
		c.link.fail(err)
		c.ended()
		return 0, c.link.cause() // yamux gets to see nothing of it
	}
	return n, nil
}

// Close is called by yamux. Unless the session is being closed, yamux has
// found fault with what the peer sent.
func (c *yamuxConn) Close() error {
	c.link.fail(protocolError("the yamux frames make no sense"))
	c.ended()
	return nil
}

// inspect follows the frames in the inbound bytes.
func (c *yamuxConn) inspect(p []byte) error {
	for len(p) > 0 {
		if c.body > 0 {
			n := min(c.body, len(p))
			c.body -= n
			p = p[n:]
			continue
		}
		n := copy(c.hdr[c.have:], p)
		c.have += n
		p = p[n:]
		if c.have < yamuxHeader {
			return nil
		}
		c.have = 0
		if err := c.frame(); err != nil {
			return err
		}
	}
	return nil
}

func (c *yamuxConn) frame() error {
	length := binary.BigEndian.Uint32(c.hdr[8:])
	switch {
	case c.hdr[0] != 0:
		return protocolError("yamux version %d", c.hdr[0])
	case c.hdr[1] == yamuxData:
		if length > frameHeader+MaxFrame {
			return protocolError("yamux frame of %d bytes", length)
		}
		c.body = int(length)
		if unread := c.unread.Add(int64(length)); unread > c.limit {
			return protocolError("%d unread bytes, flow control allows %d", unread, c.limit)
		}
	case c.hdr[1] == yamuxWindowUpdate, c.hdr[1] == yamuxGoAway:
	default:
		return protocolError("yamux frame of type %d", c.hdr[1])
	}
	return nil
}

// Write takes what yamux writes: a frame's header, or the body that the header
// just written announced.
func (c *yamuxConn) Write(p []byte) (int, error) {
	if c.bodyNext {
		c.bodyNext = false
	} else if c.hold(p) {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	err := c.link.write(c.pending, p)
	c.pending = c.pending[:0]
	if err != nil {
		c.ended()
		return 0, err
	}
	return len(p), nil
}

// hold says that more follows the header h at once: its body or, where it
// opens a stream, that stream's first frame.
func (c *yamuxConn) hold(h []byte) bool {
	flags := binary.BigEndian.Uint16(h[2:])
	c.bodyNext = h[1] == yamuxData && binary.BigEndian.Uint32(h[8:]) > 0
	opens := h[1] == yamuxWindowUpdate && flags&yamuxSYN != 0
	return c.bodyNext || opens && len(c.pending) < maxPending
}
