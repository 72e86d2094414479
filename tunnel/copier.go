package tunnel

import "io"

// A copier passes on what one endpoint reads to another, one piece at a time, in the cheapest way that
// the two are capable of. One goroutine at a time uses it.
type copier struct {
	src io.Reader

	view func() ([]byte, error) // set where no buffer is needed
	take func(n int)

	readBuffer   func(size int) (*Buffer, int, error) // may be nil
	readNow      func(size int) (*Buffer, int, error) // set only with writeFrom
	waitReadable func() error                         // may be nil

	room        func() int // may be nil
	headroom    int
	writeBuffer func(b []byte) (int, error)
	writeOwned  func(b *Buffer, n int) (int, error)                                              // may be nil
	writeFrom   func(read func(size int) (*Buffer, int, error)) (n int, readErr, writeErr error) // may be nil

	bulk bool // the last read filled at least half a buffer: more is to be expected
	full bool // the last read filled what it was given
}

func newCopier(dst io.Writer, src io.Reader, canDst, canSrc *Capabilities) copier {
	c := copier{
		src:          src,
		readBuffer:   canSrc.ReadBuffer,
		waitReadable: canSrc.WaitReadable,
		room:         canDst.Room,
		headroom:     canDst.Headroom,
		writeBuffer:  canDst.WriteBuffer,
		writeOwned:   canDst.WriteOwned,
	}
	if c.headroom == 0 && c.writeOwned == nil {
		c.view, c.take = canSrc.View, canSrc.Take
	}
	if canSrc.ReadNow != nil {
		c.readNow, c.writeFrom = canSrc.ReadNow, canDst.WriteFrom
	}
	return c
}

// next waits for the next piece, passes it on, and returns how many bytes of it were written.
func (c *copier) next() (n int, readErr, writeErr error) {
	if c.view != nil {
		b, err := c.view()
		if err != nil {
			return 0, err, nil
		}
		n, writeErr = c.writeBuffer(b)
		c.take(n)
		return n, nil, writeErr
	}
	// Of many relays that wait for one link, each would otherwise hold a buffer that has left the
	// processor's caches when its turn comes.
	if c.bulk && c.writeFrom != nil {
		n, readErr, writeErr = c.writeFrom(c.readNow)
		c.bulk = n >= WorthOwning
		if n > 0 || readErr != nil || writeErr != nil {
			return n, readErr, writeErr
		}
	}
	size := BufferSize
	if c.room != nil {
		size = min(max(c.room(), WorthOwning), BufferSize)
	}
	b, k, readErr := c.read(size)
	if k == 0 {
		return 0, readErr, nil
	}
	c.bulk = k >= WorthOwning
	n, writeErr = c.write(b, k)
	return n, readErr, writeErr
}

// read reads at most size bytes. The buffer is nil when nothing was read, and otherwise the caller's
// to free.
func (c *copier) read(size int) (*Buffer, int, error) {
	if c.readBuffer != nil {
		return c.readBuffer(size)
	}
	if c.waitReadable != nil && !c.full {
		if err := c.waitReadable(); err != nil && err != io.EOF {
			return nil, 0, err
		}
	}
	b, n, err := readBuffer(c.src, size)
	c.full = n == size
	return b, n, err
}

// write writes the n bytes of data in b, and frees b or hands it over.
func (c *copier) write(b *Buffer, n int) (int, error) {
	if c.writeOwned != nil && n >= WorthOwning {
		return c.writeOwned(b, n)
	}
	defer b.Free()
	return c.writeBuffer(b.Bytes[BufferHeadroom-c.headroom : BufferHeadroom+n])
}
