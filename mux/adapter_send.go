package mux

import (
	"encoding/binary"

	"adit/mux/link"
	"adit/tunnel"
)

// Write takes a header that yamux writes.
func (a *adapter) Write(h []byte) (int, error) {
	a.writeMu.Lock()
	defer a.writeMu.Unlock()
	stream, flags := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint16(h[2:])
	if flags&yamuxSYN != 0 {
		a.addBuffer(stream)
	}
	if flags&yamuxRST != 0 { // yamux has no such stream
		a.buffersMu.Lock()
		delete(a.buffers, stream)
		a.buffersMu.Unlock()
	}
	write := a.link.Write
	// After SYN and ACK come the target and the result, and nobody waits for the
	// FIN of a stream whose directions have both ended.
	if flags&(yamuxSYN|yamuxACK|yamuxFIN) != 0 {
		write = a.link.WriteCorked
	}
	if err := write(h); err != nil {
		a.end()
		return 0, err
	}
	return len(h), nil
}

// writeData sends b[yamuxHeader:] as data on a stream; the front of b is for the
// header. Bulk data waits until the link's queue is short.
func (a *adapter) writeData(stream uint32, b []byte) error {
	if len(b) > link.Small {
		a.bulkMu.Lock()
		defer a.bulkMu.Unlock()
		if err := a.link.WaitLowWatermark(); err != nil {
			return err
		}
	}
	return a.writeNow(stream, b)
}

// writeOwned is writeData for b.Bytes[from:to], without a copy: it frees b.
func (a *adapter) writeOwned(stream uint32, b *tunnel.Buffer, from, to int) error {
	a.bulkMu.Lock()
	defer a.bulkMu.Unlock()
	if err := a.link.WaitLowWatermark(); err != nil {
		b.Free()
		return err
	}
	return a.writeOwnedNow(stream, b, from, to)
}

// writeNow is writeData for a caller that holds bulkMu and has waited.
func (a *adapter) writeNow(stream uint32, b []byte) error {
	putYamuxData(b, stream, len(b)-yamuxHeader)
	a.writeMu.Lock()
	defer a.writeMu.Unlock()
	return a.link.Write(b)
}

// writeOwnedNow is writeOwned for a caller that holds bulkMu and has waited.
func (a *adapter) writeOwnedNow(stream uint32, b *tunnel.Buffer, from, to int) error {
	putYamuxData(b.Bytes[from:], stream, to-from-yamuxHeader)
	a.writeMu.Lock()
	err := a.link.WriteOwned(b, from, to)
	a.writeMu.Unlock()
	a.link.Flush()
	return err
}

// writeWindowUpdate tells the peer's yamux that n bytes of a stream have been
// read.
func (a *adapter) writeWindowUpdate(stream uint32, n int) error {
	var h [yamuxHeader]byte
	h[1] = yamuxWindowUpdate
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
	a.writeMu.Lock()
	defer a.writeMu.Unlock()
	return a.link.Write(h[:])
}

// putYamuxData makes the header of a frame with n bytes of data.
func putYamuxData(h []byte, stream uint32, n int) {
	h[0], h[1], h[2], h[3] = 0, yamuxData, 0, 0
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
}
