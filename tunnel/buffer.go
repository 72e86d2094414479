package tunnel

import "sync"

const (
	// BufferSize is the most that one read of a relay takes and one write passes on.
	BufferSize = 128 << 10
	// BufferHeadroom is the room before the data, for the headers that a writer puts in front of it.
	BufferHeadroom = 64
	// WorthOwning is how full a buffer must be to be handed over. Less is copied, so that data which
	// waits for a slow endpoint holds no more than twice its size.
	WorthOwning = BufferSize / 2
)

// A Buffer holds what a relay passes on. An idle relay has none.
//
// A buffer that is at least WorthOwning full is handed over to an endpoint that has WriteOwned,
// instead of copied: a session writes its headers into the headroom and keeps the buffer for
// retransmission until the peer has acknowledged it.
//
// Why: with that, corking (cork.go), and data that goes around yamux, a tunnel took 2.1 s of processor
// time per GiB instead of 2.7 (loopback, one stream, client and server together).
//
// Superfluous when: nothing is kept for retransmission, so that a buffer can be used again as soon as
// Write returns.
type Buffer struct {
	// Bytes are BufferHeadroom bytes of scratch space and then the data.
	Bytes [BufferHeadroom + BufferSize]byte
}

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// NewBuffer returns a buffer with arbitrary contents.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back. Nothing may use it any more.
func (b *Buffer) Free() { buffers.Put(b) }
