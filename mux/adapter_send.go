package mux

import (
	"encoding/binary"

	"adit/mux/link"
	"adit/tunnel"
)

// Write takes a header that yamux writes. It does not wait for the link, so that
// streams can be opened and closed while the path stands still.
func (a *adapter) Write(h []byte) (int, error) {
	stream, flags := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint16(h[2:])
	if flags&yamuxSYN != 0 {
		a.addBuffer(stream)
	}
	if flags&yamuxRST != 0 { // yamux has no such stream
		a.buffersMu.Lock()
		delete(a.buffers, stream)
		a.buffersMu.Unlock()
	}
	// After SYN and ACK come the target and the result, and nobody waits for the
	// FIN of a stream whose directions have both ended.
	corked := flags&(yamuxSYN|yamuxACK|yamuxFIN) != 0
	if err := a.link.WriteHeader(h, corked); err != nil {
		a.end()
		return 0, err
	}
	return len(h), nil
}

// writeData sends b[yamuxHeader:] as data on a stream; the front of b is for the
// header. Bulk data waits until the link's queue is short. Closing cancel ends the
// wait with link.ErrCanceled, and nothing is sent.
func (a *adapter) writeData(stream uint32, b []byte, cancel <-chan struct{}) error {
	if len(b) > link.Small {
		if err := a.takeTurn(cancel); err != nil {
			return err
		}
		defer a.endTurn()
	}
	return a.writeNow(stream, b, cancel)
}

// takeTurn waits until no other bulk writer has its turn and the link's queue is
// short. endTurn must follow if there is no error.
func (a *adapter) takeTurn(cancel <-chan struct{}) error {
	select {
	case a.bulk <- struct{}{}:
	case <-cancel:
		return link.ErrCanceled
	case <-a.link.Done():
		return a.link.Err()
	}
	if err := a.link.WaitLowWatermark(cancel); err != nil {
		a.endTurn()
		return err
	}
	return nil
}

func (a *adapter) endTurn() { <-a.bulk }

// writeOwned is writeData for b.Bytes[from:to], without a copy: it frees b.
func (a *adapter) writeOwned(stream uint32, b *tunnel.Buffer, from, to int, cancel <-chan struct{}) error {
	if err := a.takeTurn(cancel); err != nil {
		b.Free()
		return err
	}
	defer a.endTurn()
	return a.writeOwnedNow(stream, b, from, to, cancel)
}

// writeNow is writeData without waiting for a turn.
func (a *adapter) writeNow(stream uint32, b []byte, cancel <-chan struct{}) error {
	putYamuxData(b, stream, len(b)-yamuxHeader)
	return a.link.Write(b, cancel)
}

// writeOwnedNow is writeOwned for a caller that has its turn.
func (a *adapter) writeOwnedNow(stream uint32, b *tunnel.Buffer, from, to int, cancel <-chan struct{}) error {
	putYamuxData(b.Bytes[from:], stream, to-from-yamuxHeader)
	return a.link.WriteOwned(b, from, to, cancel)
}

// writeWindowUpdate tells the peer's yamux that n bytes of a stream have been
// read.
func (a *adapter) writeWindowUpdate(stream uint32, n int) error {
	var h [yamuxHeader]byte
	h[1] = yamuxWindowUpdate
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
	return a.link.WriteHeader(h[:], false)
}

// putYamuxData makes the header of a frame with n bytes of data.
func putYamuxData(h []byte, stream uint32, n int) {
	h[0], h[1], h[2], h[3] = 0, yamuxData, 0, 0
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
}
