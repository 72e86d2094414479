package mux

import (
	"slices"
	"sync"

	"adit/tunnel"
)

// chunkSize is what small writes are gathered into, and the most of them that
// one message carries: few enough that a keystroke does not wait long behind
// it, enough that its costs vanish.
const chunkSize = 64 << 10

// chunkHeadroom is the scratch space before a chunk's first byte, for the
// headers of a message that begins there.
const chunkHeadroom = 32

// ring keeps the bytes that were written and not yet acknowledged, by number.
// It grows chunk by chunk and holds no memory when all is acknowledged. It is
// not safe for concurrent use, except that a span that was taken may be read
// while more is appended or acknowledged.
type ring struct {
	chunks            []*chunk // consecutive; the first holds byte acked
	acked, sent, tail uint64   // acked ≤ sent ≤ tail
	high              uint64   // the largest that sent has been: sent ≤ high ≤ tail
	busy              *chunk   // the chunk of a span that is taken
	memory            int      // of the chunks
}

// chunk is a piece of the ring: memory of its own, to be filled, or a buffer
// that was handed over with what it holds.
type chunk struct {
	start uint64 // the number of the first byte
	first int    // where that is in buf, chunkHeadroom or more
	n     int    // bytes in it
	size  int    // bytes that it takes
	freed bool   // acknowledged while busy
	buf   []byte
	lent  *tunnel.Buffer // whose memory buf is, or nil
}

var (
	chunkPool = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkHeadroom+chunkSize)} }}
	lentPool  = sync.Pool{New: func() any { return new(chunk) }}
)

// release gives the chunk's memory back.
func (c *chunk) release() {
	if c.lent == nil {
		chunkPool.Put(c)
		return
	}
	c.lent.Free()
	c.lent, c.buf = nil, nil
	lentPool.Put(c)
}

// unsent is the number of bytes that wait to be taken.
func (r *ring) unsent() int { return int(r.tail - r.sent) }

// held is the number of bytes that are kept.
func (r *ring) held() int { return int(r.tail - r.acked) }

// append copies p behind the tail, as much of it as the last chunk or one new
// one takes, and says how much that is.
func (r *ring) append(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	var last *chunk
	if n := len(r.chunks); n > 0 {
		last = r.chunks[n-1]
	}
	if last == nil || last.n == last.size {
		last = chunkPool.Get().(*chunk)
		last.first, last.size = chunkHeadroom, chunkSize
		r.add(last)
	}
	n := copy(last.buf[last.first+last.n:], p)
	last.n += n
	r.tail += uint64(n)
	return n
}

// lend puts b.Bytes[from:to] behind the tail without copying it. The ring
// frees b. from is chunkHeadroom or more.
func (r *ring) lend(b *tunnel.Buffer, from, to int) {
	if n := len(r.chunks); n > 0 {
		r.chunks[n-1].size = r.chunks[n-1].n // nothing goes behind it
	}
	c := lentPool.Get().(*chunk)
	c.first, c.size, c.buf, c.lent = from, to-from, b.Bytes[:], b
	r.add(c)
	c.n = c.size
	r.tail += uint64(c.n)
}

// add puts an empty chunk behind the tail.
func (r *ring) add(c *chunk) {
	c.start, c.n, c.freed = r.tail, 0, false
	r.chunks = append(r.chunks, c)
	r.memory += len(c.buf)
}

// span is a run of unsent bytes within a chunk, and the place before it.
type span struct {
	chunk    *chunk
	from, to int // in chunk.buf
	headLen  int
	saved    [chunkHeadroom]byte
}

// take gives the next unsent bytes, so many at most, which count as sent from now
// on. Only one span may be taken at a time; release gives it back.
func (r *ring) take(most int) span {
	i, _ := slices.BinarySearchFunc(r.chunks, r.sent, func(c *chunk, sent uint64) int {
		if c.start+uint64(c.n) <= sent {
			return -1
		}
		return 1
	})
	c := r.chunks[i]
	at := int(r.sent - c.start)
	n := min(c.n-at, most)
	s := span{chunk: c, from: c.first + at, to: c.first + at + n}
	r.sent += uint64(n)
	r.high = max(r.high, r.sent)
	r.busy = c
	return s
}

// head is the n bytes before the span, for a header. They may belong to bytes
// that were sent before: release restores them.
func (s *span) head(n int) []byte {
	s.headLen = n
	b := s.chunk.buf[s.from-n : s.from]
	copy(s.saved[:], b)
	return b
}

// bytes is the header and the span's bytes.
func (s *span) bytes() []byte { return s.chunk.buf[s.from-s.headLen : s.to] }

func (r *ring) release(s span) {
	copy(s.chunk.buf[s.from-s.headLen:], s.saved[:s.headLen])
	r.busy = nil
	if s.chunk.freed {
		s.chunk.release()
	}
}

// acknowledge forgets the bytes before number to; acked ≤ to ≤ sent.
func (r *ring) acknowledge(to uint64) {
	r.acked = to
	n := 0
	for _, c := range r.chunks {
		full := c.n == c.size || to == r.tail
		if c.start+uint64(c.n) > to || !full {
			break
		}
		r.memory -= len(c.buf)
		if c == r.busy {
			c.freed = true
		} else {
			c.release()
		}
		n++
	}
	r.chunks = slices.Delete(r.chunks, 0, n) // which also lets go of the pointers behind the end
}

// rewind goes on sending at byte number to; acked ≤ to ≤ high.
func (r *ring) rewind(to uint64) { r.sent = to }
