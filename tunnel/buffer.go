package tunnel

import "sync"

const (
	// BufferSize is the most that one read of a relay takes and one write
	// passes on.
	BufferSize = 128 << 10
	// BufferHeadroom is the room before it, for the headers of those that pass
	// it on.
	BufferHeadroom = 64
	// WorthOwning is how full a buffer must be to be handed over: less is
	// copied, so that what waits for a slow endpoint holds no more than twice
	// its size.
	WorthOwning = BufferSize / 2
)

// Buffer holds what a relay passes on. Its memory is in use again after Free:
// an idle relay has none.
type Buffer struct {
	// Bytes are BufferHeadroom bytes of scratch space and then the data.
	Bytes [BufferHeadroom + BufferSize]byte
}

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// NewBuffer gives a buffer with arbitrary contents.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back. Nothing may use it any more.
func (b *Buffer) Free() { buffers.Put(b) }
