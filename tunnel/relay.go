// Package tunnel passes bytes between two connections and keeps what TCP promises: see Relay. It has
// the socket side of that: reading and writing sockets at low cost, buffers, listening, socket
// options, and what the kernel knows of a path. tunnel/ws is WebSocket above it, and tunnel/dial
// opens WebSocket connections. It knows nothing of multiplexing or authentication.
package tunnel

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint is one side of a relay: a socket (NewSocket), a stream of a
// session, a WebSocket. An endpoint may also implement, for the relay's
// benefit:
//
//   - ReadBuffer(size int) (b *Buffer, n int, err error): Read at most size
//     bytes into a buffer that is taken for them, or nil without any; the
//     caller frees it. While an endpoint is idle, the relay then holds no buffer.
//   - ReadNow(size int) (b *Buffer, n int, err error): the same without waiting:
//     neither a buffer nor an error when there is nothing to read.
//   - WaitReadable() error: the same by other means: block until Read has
//     something to say or fail as it would.
//   - Headroom() int and WriteBuffer(b []byte) (int, error): write
//     b[Headroom():], using the rest as scratch space.
//   - WriteOwned(b *Buffer, n int) (int, error): write the n bytes of data
//     that b holds, and take b over.
//   - Room() int: how much is best written at once now.
//   - WriteFrom(read func(size int) (*Buffer, int, error)) (n int, readErr, writeErr
//     error): wait until more may be written, have read give it, which does not
//     wait, and write that. Without n and errors there was nothing to read, or a
//     Write would wait for the peer. What waits to be written then waits in the
//     socket that it is read from, by ReadNow, and not in a buffer.
//   - View() ([]byte, error) and Take(n int): show what Read would give, and
//     remove n bytes of it: then the relay needs no buffer.
//   - Await(ready func()) bool: have ready called in a goroutine of its own,
//     once, as soon as Read has something to say or fails as it would, or
//     report false if it has already. While the endpoint is idle, the relay
//     then has no goroutine that waits for it.
//   - Watch(gone func(), blocked func() error): see [Watcher].
//   - Alive() error: whether the connection is known to be reset, without
//     reading from it.
//   - WaitReset() error: after the end has been read, block until the
//     connection is reset, or return nil when it is closed or its read
//     deadline passes.
type Endpoint interface {
	io.Reader // io.EOF only when the peer ended its direction well
	io.Writer
	// CloseWrite ends our direction well; the other goes on.
	CloseWrite() error
	// Abort ends the connection at once, both ways, and so that the peer sees
	// a reset where the transport has such a thing. It unblocks Read and
	// Write, and may be called more than once and with Close.
	Abort()
	// Close gives the endpoint back when both directions have ended.
	Close() error
}

// Watcher is an Endpoint that learns of its own end by other means than
// reading, and that can be told so.
type Watcher interface {
	// Watch registers functions. gone is called once when the endpoint has
	// ended other than well (at once, if it has already), before writes fail
	// for it. blocked is called now and then while a Write waits; its error
	// ends the Write.
	Watch(gone func(), blocked func() error)
}

// deadliner is what the relay stops a socket with.
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// abortGrace is how long data that arrived before a peer's reset may still take
// to be written: long enough for a reader that is there, short enough for one
// that is not.
const abortGrace = 500 * time.Millisecond

// Transferred counts the bytes that a relay has passed on.
type Transferred struct {
	AToB, BToA int64
}

// Relay passes bytes between two endpoints, in both directions, until both
// directions have ended, and keeps what TCP promises: an end in one direction
// is passed on as such and leaves the other one alone for as long as it likes;
// a reset or failure of either endpoint ends both, and the other sees a reset,
// never an end. It closes both endpoints. The error is nil when both
// directions ended well, and otherwise the first failure.
func Relay(a, b Endpoint) (Transferred, error) {
	r := &relay{}
	r.watch(a, b)
	r.watch(b, a)
	aToB, bToA := r.direction(b, a), r.direction(a, b)
	bToA.start()
	aToB.copy()
	<-bToA.done
	t := Transferred{aToB.total, bToA.total}
	if r.err != nil {
		a.Abort()
		b.Abort()
	}
	a.Close()
	b.Close()
	return t, r.err
}

type relay struct {
	gone atomic.Bool // an endpoint that is watched has ended
	mu   sync.Mutex
	err  error // the first failure
	half bool  // one direction has ended well
	told bool  // err comes from the endpoint that failed, not from its being stopped
}

// watch has a's end, where a can tell it, stop what goes on at b: nothing more
// is read from b, and what a sent before has a short time to reach b.
func (r *relay) watch(a, b Endpoint) {
	w, ok := a.(Watcher)
	if !ok {
		return
	}
	var alive func() error
	if p, ok := b.(interface{ Alive() error }); ok {
		alive = p.Alive
	}
	w.Watch(func() {
		r.gone.Store(true)
		if d, ok := b.(deadliner); ok {
			d.SetReadDeadline(time.Unix(1, 0))
			d.SetWriteDeadline(time.Now().Add(abortGrace))
		}
	}, alive)
}

// direction passes bytes from src to dst.
type direction struct {
	relay    *relay
	dst, src Endpoint
	pass     func() (n int, readErr, writeErr error)
	await    func(ready func()) bool // or nil
	resume   func()                  // copy, bound once
	total    int64
	done     chan struct{} // closed at its end
}

func (r *relay) direction(dst, src Endpoint) *direction {
	return &direction{relay: r, dst: dst, src: src, pass: passing(dst, src), done: make(chan struct{})}
}

// start has the bytes passed on in goroutines of their own, until done.
func (d *direction) start() {
	if a, ok := d.src.(interface{ Await(ready func()) bool }); ok {
		d.await, d.resume = a.Await, d.copy
		if d.await(d.resume) {
			return
		}
	}
	go d.copy()
}

// copy passes bytes on until src ends or either fails, or until there is
// nothing to read and src will have it called again.
func (d *direction) copy() {
	for d.await == nil || !d.await(d.resume) {
		n, readErr, writeErr := d.pass()
		d.total += int64(n)
		switch {
		case writeErr != nil:
			d.relay.failed(writeErr, d.dst, d.src)
		case readErr == io.EOF:
			if err := d.dst.CloseWrite(); err != nil {
				d.relay.failed(err, d.dst, d.src)
			} else {
				d.relay.ended(d.dst, d.src)
			}
		case readErr != nil:
			d.relay.failed(readErr, d.dst, d.src)
		default:
			continue
		}
		close(d.done)
		return
	}
}

// ended is called when a direction has ended well. The source of the first one
// is watched until the other one has ended, too: it can still be reset, though
// nothing is read from it any more.
func (r *relay) ended(dst, src Endpoint) {
	r.mu.Lock()
	first := !r.half
	r.half = true
	r.mu.Unlock()
	if !first {
		if d, ok := dst.(deadliner); ok { // the source of the first
			d.SetReadDeadline(time.Unix(1, 0))
		}
		return
	}
	if w, ok := src.(interface{ WaitReset() error }); ok {
		if err := w.WaitReset(); err != nil {
			r.failed(err, dst, src)
		}
	}
}

// failed ends the relay for the first reason that it is given. After the end
// of a watched endpoint the direction that comes from it goes on alone, to
// deliver what arrived before.
func (r *relay) failed(err error, dst, src Endpoint) {
	_, fromWatched := src.(Watcher)
	stopped := r.gone.Load() && !fromWatched
	r.mu.Lock()
	if r.err == nil || !r.told && !stopped {
		r.err, r.told = err, !stopped
	}
	r.mu.Unlock()
	if stopped {
		return
	}
	dst.Abort()
	src.Abort()
}

// passing gives a function that passes on what src has next, and says how many
// bytes of it dst has taken.
func passing(dst, src Endpoint) func() (n int, readErr, writeErr error) {
	out := newBufferWriter(dst)
	if v, ok := src.(interface {
		View() ([]byte, error)
		Take(int)
	}); ok && out.headroom == 0 && out.own == nil {
		return func() (n int, readErr, writeErr error) {
			b, err := v.View()
			if err != nil {
				return 0, err, nil
			}
			n, err = dst.Write(b)
			v.Take(n)
			return n, nil, err
		}
	}
	room := func() int { return BufferSize }
	if r, ok := dst.(interface{ Room() int }); ok {
		room = r.Room
	}
	read := reading(src)
	pull := pulling(dst, src)
	much := false // the last read gave much: there may be more
	return func() (n int, readErr, writeErr error) {
		if much && pull != nil {
			n, readErr, writeErr = pull()
			much = n >= WorthOwning
			if n > 0 || readErr != nil || writeErr != nil {
				return n, readErr, writeErr
			}
		}
		b, k, readErr := read(min(max(room(), WorthOwning), BufferSize))
		if k == 0 {
			return 0, readErr, nil
		}
		much = k >= WorthOwning
		n, writeErr = out.pass(b, k)
		return n, readErr, writeErr
	}
}

// pulling gives a function that has dst read from src when it is dst's turn to be
// written to, or nil. Of many relays that wait for one link, each would otherwise
// have a buffer that has left the processor's caches when its turn comes.
func pulling(dst, src Endpoint) func() (n int, readErr, writeErr error) {
	to, ok := dst.(interface {
		WriteFrom(read func(size int) (*Buffer, int, error)) (n int, readErr, writeErr error)
	})
	if !ok {
		return nil
	}
	from, ok := src.(interface {
		ReadNow(size int) (*Buffer, int, error)
	})
	if !ok {
		return nil
	}
	read := from.ReadNow
	return func() (n int, readErr, writeErr error) { return to.WriteFrom(read) }
}

// reading is the best way to read that an endpoint has, in the form of
// Socket.ReadBuffer.
func reading(e Endpoint) func(size int) (*Buffer, int, error) {
	if r, ok := e.(interface {
		ReadBuffer(size int) (*Buffer, int, error)
	}); ok {
		return r.ReadBuffer
	}
	wait := func() error { return nil }
	if w, ok := e.(interface{ WaitReadable() error }); ok {
		wait = w.WaitReadable
	}
	more := false
	return func(size int) (*Buffer, int, error) {
		if !more {
			if err := wait(); err != nil && err != io.EOF {
				return nil, 0, err
			}
		}
		b, n, err := readBuffer(e, size)
		more = n == size
		return b, n, err
	}
}

// bufferWriter is the best way to write a buffer that an endpoint has.
type bufferWriter struct {
	headroom int // that write wants
	write    func([]byte) (int, error)
	own      func(*Buffer, int) (int, error) // or nil
}

func newBufferWriter(e Endpoint) bufferWriter {
	w := bufferWriter{0, e.Write, nil}
	if e, ok := e.(interface {
		Headroom() int
		WriteBuffer([]byte) (int, error)
	}); ok && e.Headroom() <= BufferHeadroom {
		w.headroom, w.write = e.Headroom(), e.WriteBuffer
	}
	if e, ok := e.(interface {
		WriteOwned(*Buffer, int) (int, error)
	}); ok {
		w.own = e.WriteOwned
	}
	return w
}

// pass writes the n bytes of data in b, and sees to it that b is freed.
func (w bufferWriter) pass(b *Buffer, n int) (int, error) {
	if w.own != nil && n >= WorthOwning {
		return w.own(b, n)
	}
	defer b.Free()
	return w.write(b.Bytes[BufferHeadroom-w.headroom : BufferHeadroom+n])
}
