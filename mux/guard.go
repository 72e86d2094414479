package mux

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"

	"adit/tunnel"
)

// The parts of yamux's frame header that the adapter looks at; the format is
// in yamux's spec.md.
const (
	yamuxHeader       = 12
	yamuxData         = 0
	yamuxWindowUpdate = 1
	yamuxGoAway       = 3
	yamuxSYN          = 1
	yamuxACK          = 2
	yamuxFIN          = 4
	yamuxRST          = 8
)

// yamuxConn stands between yamux and the link.
//
// Outwards yamux writes only the headers that open and close streams. What the
// streams carry goes around it: yamux would copy it, and pass it from one
// goroutine to another and back. What opens a stream leaves together with
// what is written next.
//
// Inwards it is the same: what streams carry goes to their inboxes, and yamux
// gets the headers that open and close them. And it lets no peer make yamux do
// what adit never asks for: pings (yamux starts a goroutine for each), frames
// above a bound, and more unread bytes than the session's flow control allows.
type yamuxConn struct {
	link   *link
	ended  func()       // called when the link is over, before yamux is told
	limit  int64        // the most that unread may reach
	unread atomic.Int64 // bytes of frames received and not yet consumed

	// Inbound.
	parity      uint32 // of the streams that the peer opens
	updateAfter int    // bytes of a stream after which the peer's yamux gets to know of them
	hdr         [yamuxHeader]byte
	held        []byte // of hdr, what yamux has still to get

	boxes   sync.Mutex
	inboxes map[uint32]*inbox // of the streams that yamux knows; nil when the link is over

	// Outbound.
	bulk    sync.Mutex // before writing, for more than is urgent
	writing sync.Mutex // one at a time
}

// urgent is what is written, at most, for somebody at a keyboard. It does not
// wait behind those who wait to write more.
const urgent = 2 << 10

// Read gives yamux its headers.
func (c *yamuxConn) Read(p []byte) (int, error) {
	n, err := c.read(c.link, p)
	if err != nil {
		c.link.fail(err)
		c.over()
		return 0, c.link.cause() // yamux gets to see nothing of it
	}
	return n, nil
}

// Close is called by yamux. Unless the session is being closed, yamux has
// found fault with what the peer sent.
func (c *yamuxConn) Close() error {
	c.link.fail(protocolError("the yamux frames make no sense"))
	c.over()
	return nil
}

// over tells the streams that the link is over.
func (c *yamuxConn) over() {
	c.ended()
	c.boxes.Lock()
	inboxes := c.inboxes
	c.inboxes = nil
	c.boxes.Unlock()
	for _, in := range inboxes {
		in.stop()
	}
}

// read follows the frames that r has, up to one that yamux must see.
func (c *yamuxConn) read(r io.Reader, p []byte) (int, error) {
	for len(c.held) == 0 {
		if _, err := io.ReadFull(r, c.hdr[:]); err != nil {
			return 0, err
		}
		if err := c.frame(r); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

// frame deals with the frame whose header has been read, and leaves in held
// what is for yamux.
func (c *yamuxConn) frame(r io.Reader) error {
	stream, flags := binary.BigEndian.Uint32(c.hdr[4:]), binary.BigEndian.Uint16(c.hdr[2:])
	length := binary.BigEndian.Uint32(c.hdr[8:])
	switch {
	case c.hdr[0] != 0:
		return protocolError("yamux version %d", c.hdr[0])
	case c.hdr[1] == yamuxData && length > frameHeader+MaxFrame:
		return protocolError("yamux frame of %d bytes", length)
	case c.hdr[1] == yamuxGoAway:
		c.held = c.hdr[:]
		return nil
	case c.hdr[1] != yamuxData && c.hdr[1] != yamuxWindowUpdate:
		return protocolError("yamux frame of type %d", c.hdr[1])
	}
	if flags&yamuxSYN != 0 && (stream == 0 || stream%2 != c.parity || !c.addInbox(stream)) {
		return protocolError("stream %d is not the peer's to open", stream)
	}
	if c.hdr[1] == yamuxData {
		if err := c.data(r, stream, int(length)); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(c.hdr[8:], 0)
	}
	if flags&(yamuxFIN|yamuxRST) != 0 {
		c.endInbox(stream)
	}
	if c.hdr[1] == yamuxWindowUpdate || flags != 0 {
		c.held = c.hdr[:]
	}
	return nil
}

// data passes the n bytes of a frame on to the stream's inbox. What comes for a
// stream that does not exist stays unread for ever: a peer that has read of a
// stream's end sends none.
func (c *yamuxConn) data(r io.Reader, stream uint32, n int) error {
	in := c.inbox(stream)
	if unread := c.unread.Add(int64(n)); unread > c.limit {
		return protocolError("%d unread bytes, flow control allows %d", unread, c.limit)
	}
	for n > 0 {
		var room []byte
		if in != nil {
			room = in.room(n)
		}
		if room == nil {
			if in != nil {
				c.unread.Add(int64(-n))
			}
			_, err := io.CopyN(io.Discard, r, int64(n))
			return err
		}
		m, err := r.Read(room)
		n -= m
		if !in.filled(m, n == 0) {
			c.unread.Add(int64(-m))
		} else if n > 0 && (c.link == nil || !c.link.tellLater(in)) {
			in.tellNow()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addInbox makes the inbox of a stream that opens. It reports false where there is
// one: a stream of that number is not closed here, whatever yamux, which a reset
// is enough for, thinks of it. Two would have one inbox.
func (c *yamuxConn) addInbox(stream uint32) bool {
	c.boxes.Lock()
	defer c.boxes.Unlock()
	if c.inboxes[stream] != nil {
		return false
	}
	if c.inboxes != nil {
		c.inboxes[stream] = newInbox()
	}
	return true
}

// endInbox ends the inbox of a stream on which nothing more comes.
func (c *yamuxConn) endInbox(stream uint32) {
	c.boxes.Lock()
	defer c.boxes.Unlock()
	if in := c.inboxes[stream]; in != nil {
		in.end()
		if in.deaf {
			delete(c.inboxes, stream)
		}
	}
}

// closeInbox forgets what has come for a stream; what still comes is discarded.
func (c *yamuxConn) closeInbox(stream uint32, in *inbox) {
	c.boxes.Lock()
	defer c.boxes.Unlock()
	unread, ended := in.close()
	c.unread.Add(int64(-unread))
	if ended {
		delete(c.inboxes, stream)
	}
}

// reader gives the reader of a stream that yamux has.
func (c *yamuxConn) reader(stream uint32) reader {
	in := c.inbox(stream)
	if in == nil { // the link is over
		in = newInbox()
		in.stop()
	}
	return reader{conn: c, stream: stream, in: in}
}

// inbox gives the inbox of a stream, or nil.
func (c *yamuxConn) inbox(stream uint32) *inbox {
	c.boxes.Lock()
	defer c.boxes.Unlock()
	return c.inboxes[stream]
}

// Write takes a header that yamux writes.
func (c *yamuxConn) Write(h []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	stream, flags := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint16(h[2:])
	if flags&yamuxSYN != 0 {
		c.addInbox(stream)
	}
	if flags&yamuxRST != 0 { // yamux knows no such stream
		c.boxes.Lock()
		delete(c.inboxes, stream)
		c.boxes.Unlock()
	}
	write := c.link.write
	// Next come the target and the result, and the end of a stream is news to nobody
	// once its directions have ended.
	if flags&(yamuxSYN|yamuxACK|yamuxFIN) != 0 {
		write = c.link.writeSoon
	}
	if err := write(h); err != nil {
		c.over()
		return 0, err
	}
	return len(h), nil
}

// writeData sends b[yamuxHeader:] as data on a stream; the front of b is for
// the header.
func (c *yamuxConn) writeData(stream uint32, b []byte) error {
	if len(b) > urgent {
		c.bulk.Lock()
		defer c.bulk.Unlock()
		if err := c.link.awaitLull(); err != nil {
			return err
		}
	}
	return c.writeNow(stream, b)
}

// lendData is writeData of b.Bytes[from:to], without a copy: it frees b.
func (c *yamuxConn) lendData(stream uint32, b *tunnel.Buffer, from, to int) error {
	c.bulk.Lock()
	defer c.bulk.Unlock()
	if err := c.link.awaitLull(); err != nil {
		b.Free()
		return err
	}
	return c.lendNow(stream, b, from, to)
}

// writeNow is writeData for who holds bulk and has had a lull.
func (c *yamuxConn) writeNow(stream uint32, b []byte) error {
	putYamuxData(b, stream, len(b)-yamuxHeader)
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.link.write(b)
}

// lendNow is lendData for who holds bulk and has had a lull.
func (c *yamuxConn) lendNow(stream uint32, b *tunnel.Buffer, from, to int) error {
	putYamuxData(b.Bytes[from:], stream, to-from-yamuxHeader)
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.link.lend(b, from, to)
}

// yamuxWindow is what each side tells the other that it may send on a stream,
// above what credit ever allows.
func (c *Config) yamuxWindow() uint32 { return 2*uint32(c.MaxWindow) + 1<<20 }

// consumed tells the peer's yamux that n bytes of a stream have been read.
func (c *yamuxConn) consumed(stream uint32, n int) error {
	var h [yamuxHeader]byte
	h[1] = yamuxWindowUpdate
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.link.write(h[:])
}

// putYamuxData makes the header of a frame with n bytes of data.
func putYamuxData(h []byte, stream uint32, n int) {
	h[0], h[1], h[2], h[3] = 0, yamuxData, 0, 0
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
}
