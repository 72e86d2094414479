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
//   - WaitReadable() error: block until Read has something to say or fail as
//     it would. While an endpoint is idle, the relay then holds no buffer.
//   - Headroom() int and WriteBuffer(b []byte) (int, error): write
//     b[Headroom():], using the rest as scratch space.
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

const (
	// relayBuffer is the most that one read takes and one write passes on.
	relayBuffer = 64 << 10
	// relayHeadroom is the most that an endpoint may want before it.
	relayHeadroom = 32
	// abortGrace is how long data that arrived before a peer's reset may
	// still take to be written: long enough for a reader that is there, short
	// enough for one that is not.
	abortGrace = 500 * time.Millisecond
)

var relayBuffers = sync.Pool{New: func() any { return new([relayHeadroom + relayBuffer]byte) }}

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
	var t Transferred
	var wg sync.WaitGroup
	wg.Go(func() { t.BToA = r.copy(a, b) })
	t.AToB = r.copy(b, a)
	wg.Wait()
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

// copy passes bytes from src to dst until src ends or either fails, and says
// how many.
func (r *relay) copy(dst, src Endpoint) (total int64) {
	out := newBufferWriter(dst)
	waiter, _ := src.(interface{ WaitReadable() error })
	for more := false; ; {
		if waiter != nil && !more {
			if err := waiter.WaitReadable(); err != nil && err != io.EOF {
				r.failed(err, dst, src)
				return total
			}
		}
		buf := relayBuffers.Get().(*[relayHeadroom + relayBuffer]byte)
		b := buf[relayHeadroom-out.headroom:]
		n, readErr := src.Read(b[out.headroom:])
		var writeErr error
		if n > 0 {
			var written int
			written, writeErr = out.write(b[:out.headroom+n])
			total += int64(written)
		}
		relayBuffers.Put(buf)
		more = n == relayBuffer
		switch {
		case writeErr != nil:
			r.failed(writeErr, dst, src)
			return total
		case readErr == io.EOF:
			if err := dst.CloseWrite(); err != nil {
				r.failed(err, dst, src)
			} else {
				r.ended(dst, src)
			}
			return total
		case readErr != nil:
			r.failed(readErr, dst, src)
			return total
		}
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

// bufferWriter is an endpoint's WriteBuffer, or its Write in that shape.
type bufferWriter struct {
	headroom int
	write    func([]byte) (int, error)
}

func newBufferWriter(e Endpoint) bufferWriter {
	if w, ok := e.(interface {
		Headroom() int
		WriteBuffer([]byte) (int, error)
	}); ok && w.Headroom() <= relayHeadroom {
		return bufferWriter{w.Headroom(), w.WriteBuffer}
	}
	return bufferWriter{0, e.Write}
}
