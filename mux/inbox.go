package mux

import (
	"io"
	"sync"

	"github.com/hashicorp/yamux"

	"adit/tunnel"
)

// inbox is what has arrived for a stream and has not been read. One goroutine
// fills it and one reads it, without a copy: the reader gets to see the memory
// that was filled. An empty inbox holds no memory.
type inbox struct {
	mu      sync.Mutex
	arrived sync.Cond // there is something to say to the reader
	ready   func()    // called when there is, once
	pieces  []piece   // in order; all but the last are full
	one     [1]piece  // where pieces is as long as that is enough
	filling bool      // room has been given out, in the last piece
	ended   bool      // nothing more will come
	stopped bool      // the reader shall not wait
	deaf    bool      // nothing is wanted any more
}

// piece is memory of which mem[from:to] is to be read, and mem[to:] to be
// filled.
type piece struct {
	mem      []byte
	from, to int
	buffer   *tunnel.Buffer // whose memory mem is, or nil
	small    *[smallPiece]byte
}

// smallPiece is the memory for frames that fit it: many streams with a little
// that is unread must not hold a whole buffer each.
const smallPiece = 4 << 10

var smallPieces = sync.Pool{New: func() any { return new([smallPiece]byte) }}

func newPiece(n int) piece {
	if n <= smallPiece {
		b := smallPieces.Get().(*[smallPiece]byte)
		return piece{mem: b[:], small: b}
	}
	b := tunnel.NewBuffer()
	return piece{mem: b.Bytes[:], buffer: b}
}

func (p *piece) free() {
	if p.small != nil {
		smallPieces.Put(p.small)
	} else {
		p.buffer.Free()
	}
}

func newInbox() *inbox {
	b := new(inbox)
	b.arrived.L = &b.mu
	b.pieces = b.one[:0]
	return b
}

// room gives memory for up to n bytes that are about to arrive, or nil when
// they are not wanted. filled must follow.
func (b *inbox) room(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf || b.ended {
		return nil
	}
	last := len(b.pieces) - 1
	if last < 0 || b.pieces[last].to == len(b.pieces[last].mem) {
		b.pieces = append(b.pieces, newPiece(n))
		last++
	}
	b.filling = true
	p := b.pieces[last]
	return p.mem[p.to:min(p.to+n, len(p.mem))]
}

// filled says that n bytes have been put into the room, and whether the reader
// shall get to know. It reports false when they are not wanted any more.
func (b *inbox) filled(n int, tell bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filling = false
	if b.deaf {
		return false
	}
	b.pieces[len(b.pieces)-1].to += n
	b.dropEmpty()
	if tell {
		b.tell()
	}
	return true
}

// tellNow has the reader look at what there is.
func (b *inbox) tellNow() {
	b.mu.Lock()
	if b.readable() {
		b.tell()
	}
	b.mu.Unlock()
}

// tell has the reader look. mu is held.
func (b *inbox) tell() {
	b.arrived.Broadcast()
	if ready := b.ready; ready != nil {
		b.ready = nil
		go ready()
	}
}

// await has ready called once, when view need not wait, or reports false when
// it need not now.
func (b *inbox) await(ready func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readable() || b.ended || b.stopped || b.deaf {
		return false
	}
	b.ready = ready
	return true
}

func (b *inbox) readable() bool {
	return len(b.pieces) > 0 && b.pieces[0].from < b.pieces[0].to
}

// view gives the next bytes, up to max of them, and waits until there are
// some. They stay until taken. The error is io.EOF at the end, and
// yamux.ErrTimeout when the reader shall not wait.
func (b *inbox) view(max int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.readable():
			p := &b.pieces[0]
			return p.mem[p.from:min(p.to, p.from+max)], nil
		case b.ended:
			return nil, io.EOF
		case b.stopped || b.deaf:
			return nil, yamux.ErrTimeout
		}
		b.arrived.Wait()
	}
}

// take removes n bytes that view has shown.
func (b *inbox) take(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf {
		return
	}
	b.pieces[0].from += n
	b.dropEmpty()
}

// dropEmpty gives the first piece back if it has been read and is not being
// filled.
func (b *inbox) dropEmpty() {
	if len(b.pieces) == 0 || b.pieces[0].from < b.pieces[0].to || b.filling && len(b.pieces) == 1 {
		return
	}
	b.pieces[0].free()
	n := copy(b.pieces, b.pieces[1:])
	b.pieces[n] = piece{}
	if b.pieces = b.pieces[:n]; n == 0 {
		b.pieces = b.one[:0]
	}
}

// end says that nothing more will come.
func (b *inbox) end() {
	b.mu.Lock()
	b.ended = true
	b.tell()
	b.mu.Unlock()
}

// stop has the reader get what there is, and then wait no more; resume undoes
// it.
func (b *inbox) stop() {
	b.mu.Lock()
	b.stopped = true
	b.tell()
	b.mu.Unlock()
}

func (b *inbox) resume() {
	b.mu.Lock()
	b.stopped = false
	b.mu.Unlock()
}

// close forgets what there is, and has what comes be discarded. It gives the
// number of bytes that were there, and whether nothing more will come.
func (b *inbox) close() (unread int, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pieces {
		unread += p.to - p.from
	}
	b.pieces, b.one = nil, [1]piece{} // to the garbage collector: a reader may still look
	b.deaf = true
	b.tell()
	return unread, b.ended
}

// reader reads an inbox, and keeps the session's account of what is unread and
// yamux's of what may be sent.
type reader struct {
	conn   *yamuxConn
	stream uint32
	in     *inbox
	window int // bytes read since yamux was told
}

func (r *reader) Read(p []byte) (int, error) {
	b, err := r.in.view(len(p))
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.take(n)
	return n, nil
}

func (r *reader) take(n int) {
	r.conn.unread.Add(int64(-n))
	r.in.take(n)
	if r.window += n; r.window >= r.conn.updateAfter {
		_ = r.conn.consumed(r.stream, r.window) // fails with the link
		r.window = 0
	}
}
