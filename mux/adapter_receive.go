package mux

import (
	"encoding/binary"
	"fmt"
	"io"

	"adit/mux/link"
)

// Read gives yamux the headers that are for it.
func (a *adapter) Read(p []byte) (int, error) {
	n, err := a.read(a.link, p)
	if err != nil {
		a.link.Fail(err)
		a.end()
		return 0, a.link.Err()
	}
	return n, nil
}

// read handles the frames that r has, up to the first one that yamux must see,
// and gives its header.
func (a *adapter) read(r io.Reader, p []byte) (int, error) {
	for len(a.forYamux) == 0 {
		if _, err := io.ReadFull(r, a.header[:]); err != nil {
			return 0, err
		}
		if err := a.frame(r); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.forYamux)
	a.forYamux = a.forYamux[n:]
	return n, nil
}

// frame handles the frame whose header has been read.
func (a *adapter) frame(r io.Reader) error {
	stream, flags := binary.BigEndian.Uint32(a.header[4:]), binary.BigEndian.Uint16(a.header[2:])
	length := binary.BigEndian.Uint32(a.header[8:])
	switch {
	case a.header[0] != 0:
		return link.ProtocolError("yamux version %d", a.header[0])
	case a.header[1] == yamuxData && length > frameHeader+MaxFrame:
		return link.ProtocolError("yamux frame of %d bytes", length)
	case a.header[1] == yamuxGoAway:
		a.forYamux = a.header[:]
		return nil
	case a.header[1] != yamuxData && a.header[1] != yamuxWindowUpdate:
		return link.ProtocolError("yamux frame of type %d", a.header[1])
	}
	if flags&yamuxSYN != 0 && (stream == 0 || stream%2 != a.peerParity || !a.addBuffer(stream)) {
		return link.ProtocolError("stream %d is not the peer's to open", stream)
	}
	if a.header[1] == yamuxData {
		if err := a.data(r, stream, int(length)); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(a.header[8:], 0)
	}
	if flags&(yamuxFIN|yamuxRST) != 0 {
		a.endBuffer(stream)
	}
	if a.header[1] == yamuxWindowUpdate || flags != 0 {
		a.forYamux = a.header[:]
	}
	return nil
}

// data moves the n bytes of a frame to the stream's receive buffer. The bytes
// for a stream that does not exist stay counted as unread: a peer that has read
// of the stream's end sends none.
func (a *adapter) data(r io.Reader, stream uint32, n int) error {
	in := a.buffer(stream)
	if unread := a.unread.Add(int64(n)); unread > a.limit {
		return link.ProtocolError("%d unread bytes, flow control allows %d", unread, a.limit)
	}
	if in != nil && n > 0 {
		if err := in.admit(n); err != nil {
			return fmt.Errorf("stream %d: %w", stream, err)
		}
	}
	for n > 0 {
		var room []byte
		if in != nil {
			room = in.room(n)
		}
		if room == nil {
			if in != nil {
				a.unread.Add(int64(-n))
			}
			_, err := io.CopyN(io.Discard, r, int64(n))
			return err
		}
		m, err := r.Read(room)
		n -= m
		// The stream's reader is woken once for all that has been received.
		notify := n == 0 || a.buffered == nil || !a.buffered()
		if !in.filled(m, notify) {
			a.unread.Add(int64(-m))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
