package mux

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/yamux"

	"adit/mux/link"
)

// receiveBuffer holds what has arrived for a stream and has not been read. One
// goroutine fills it and one reads it, without a copy: the reader sees the
// memory that was filled. An empty buffer holds no memory.
type receiveBuffer struct {
	mu         sync.Mutex
	changed    sync.Cond     // view has something to return
	ready      func()        // called once when it has
	pieces     []piece       // in order; all but the last are full
	few        [2]piece      // the memory of pieces while that is enough
	filling    bool          // room has been given out, in the last piece
	ended      bool          // nothing more will come
	stopped    bool          // view does not wait
	discarding bool          // what comes is dropped
	sealed     bool          // the peer has ended its direction: nothing may come
	allowance  int64         // bytes that the peer may still send
	bulk       bool          // the stream's window is large: pieces may be, too
	memory     *atomic.Int64 // counts the memory of all the session's pieces
}

// newReceiveBuffer returns a buffer for a stream whose peer may send allowance
// bytes at first. memory counts the bytes of memory that it holds.
func newReceiveBuffer(allowance int64, memory *atomic.Int64) *receiveBuffer {
	b := &receiveBuffer{allowance: allowance, memory: memory}
	b.changed.L = &b.mu
	b.pieces = b.few[:0]
	return b
}

// admit counts n bytes that are about to arrive, and returns what is wrong if the
// peer may not send them.
func (b *receiveBuffer) admit(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return errDataAfterEnd
	}
	if b.allowance -= int64(n); b.allowance < 0 {
		return errBeyondCredit
	}
	return nil
}

var (
	errDataAfterEnd = link.ProtocolError("data on a stream after its end")
	errBeyondCredit = link.ProtocolError("more data on a stream than it has credit for")
)

// allow lets the peer send n bytes more, fewer if n is negative, of a window of size
// bytes.
func (b *receiveBuffer) allow(n, size int64) {
	b.mu.Lock()
	b.allowance += n
	b.bulk = size >= bulkWindow
	b.mu.Unlock()
}

// seal says that the peer has ended its direction. It returns an error if more has
// come already.
func (b *receiveBuffer) seal() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = true
	if b.readable() {
		return errDataAfterEnd
	}
	return nil
}

// room returns memory for up to n bytes that are about to arrive, or nil when
// they are not wanted. filled must follow.
func (b *receiveBuffer) room(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discarding || b.ended {
		return nil
	}
	last := len(b.pieces) - 1
	if last < 0 || b.pieces[last].to == len(b.pieces[last].mem) {
		if !b.bulk {
			n = min(n, maxSmallPiece)
		}
		b.pieces = append(b.pieces, newPiece(n))
		b.memory.Add(int64(len(b.pieces[last+1].mem)))
		last++
	}
	b.filling = true
	p := b.pieces[last]
	return p.mem[p.to:min(p.to+n, len(p.mem))]
}

// filled says that n bytes have been put into the room, and whether to wake the
// reader. It reports false when the bytes are not wanted any more.
func (b *receiveBuffer) filled(n int, notify bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filling = false
	if b.discarding {
		return false
	}
	b.pieces[len(b.pieces)-1].to += n
	b.dropEmpty()
	if notify {
		b.notify()
	}
	return true
}

// notify wakes the reader. mu is held.
func (b *receiveBuffer) notify() {
	b.changed.Broadcast()
	if ready := b.ready; ready != nil {
		b.ready = nil
		go ready()
	}
}

// await has ready called once, in a goroutine of its own, when view would not
// wait. It reports false, and does not call it, if view would not wait now.
func (b *receiveBuffer) await(ready func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readable() || b.ended || b.stopped || b.discarding {
		return false
	}
	b.ready = ready
	return true
}

func (b *receiveBuffer) readable() bool {
	return len(b.pieces) > 0 && b.pieces[0].from < b.pieces[0].to
}

// view returns the next bytes, up to max of them, and waits until there are
// some. They stay until take. The error is io.EOF at the end, and
// yamux.ErrTimeout after stop.
func (b *receiveBuffer) view(max int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.readable():
			p := &b.pieces[0]
			return p.mem[p.from:min(p.to, p.from+max)], nil
		case b.ended:
			return nil, io.EOF
		case b.stopped || b.discarding:
			return nil, yamux.ErrTimeout
		}
		b.changed.Wait()
	}
}

// take removes n bytes that view has shown.
func (b *receiveBuffer) take(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discarding {
		return
	}
	b.pieces[0].from += n
	b.dropEmpty()
}

// dropEmpty frees the first piece if it has been read and is not being filled.
func (b *receiveBuffer) dropEmpty() {
	if len(b.pieces) == 0 || b.pieces[0].from < b.pieces[0].to || b.filling && len(b.pieces) == 1 {
		return
	}
	b.memory.Add(-int64(len(b.pieces[0].mem)))
	b.pieces[0].free()
	n := copy(b.pieces, b.pieces[1:])
	b.pieces[n] = piece{}
	if b.pieces = b.pieces[:n]; n == 0 {
		b.pieces = b.few[:0]
	}
}

// end says that nothing more will come, and reports whether the buffer discards
// anyway.
func (b *receiveBuffer) end() (discarding bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.notify()
	return b.discarding
}

// stop makes view return what there is and then not wait any more; resume undoes
// it.
func (b *receiveBuffer) stop() {
	b.mu.Lock()
	b.stopped = true
	b.notify()
	b.mu.Unlock()
}

func (b *receiveBuffer) resume() {
	b.mu.Lock()
	b.stopped = false
	b.mu.Unlock()
}

// close drops what there is and what comes. It returns the number of bytes that
// were there, and whether nothing more will come.
func (b *receiveBuffer) close() (unread int, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pieces {
		unread += p.to - p.from
		b.memory.Add(-int64(len(p.mem)))
	}
	b.pieces, b.few = nil, [2]piece{} // left to the garbage collector: a reader may still use them
	b.discarding = true
	b.notify()
	return unread, b.ended
}
