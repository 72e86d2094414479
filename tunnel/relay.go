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

// abortGrace is how long data that arrived before a peer's reset may still take to be written: long
// enough for an application that reads, short enough for one that does not.
const abortGrace = 500 * time.Millisecond

// Transferred counts the bytes that a relay has passed on.
type Transferred struct {
	AToB, BToA int64
}

// Progress counts the bytes that a relay has passed on so far. Any goroutine may read it.
type Progress struct {
	AToB, BToA atomic.Int64
}

// Relay passes bytes between two endpoints, in both directions, until both directions have ended, and
// keeps what TCP promises: an end in one direction is passed on as such and leaves the other one alone
// for as long as it likes; a reset or failure of either endpoint ends both, and the other sees a
// reset, never an end. It closes both endpoints. The error is nil when both directions ended well, and
// otherwise the first failure.
func Relay(a, b Endpoint) (Transferred, error) { return RelayCounted(a, b, &Progress{}) }

// RelayCounted is Relay, and counts in p.
func RelayCounted(a, b Endpoint, p *Progress) (Transferred, error) {
	canA, canB := capabilitiesOf(a), capabilitiesOf(b)
	r := &relay{}
	sideA, sideB := newSide(a, &canA), newSide(b, &canB)
	r.watch(sideA, sideB, canA.Watch, canB.Alive)
	r.watch(sideB, sideA, canB.Watch, canA.Alive)
	aToB := newDirection(r, sideB, sideA, &canB, &canA, &p.AToB)
	bToA := newDirection(r, sideA, sideB, &canA, &canB, &p.BToA)
	bToA.start()
	aToB.copy()
	<-bToA.done
	t := Transferred{aToB.total.Load(), bToA.total.Load()}
	if r.err != nil {
		a.Abort()
		b.Abort()
	}
	a.Close()
	b.Close()
	return t, r.err
}

// A relay is what the two directions of a Relay share.
type relay struct {
	gone atomic.Bool // a watched endpoint has ended other than well

	mu       sync.Mutex
	err      error // the first failure
	halfDone bool  // one direction has ended well
	byPeer   bool  // err comes from the endpoint that failed, not from stopping the other one
}

// A side is an endpoint with what the relay needs of its capabilities about ends.
type side struct {
	Endpoint
	watched          bool
	waitReset        func() error // may be nil
	stopReading      func()
	stopWritingAfter func(time.Duration)
}

func newSide(e Endpoint, can *Capabilities) *side {
	s := &side{e, can.Watch != nil, can.WaitReset, can.StopReading, can.StopWritingAfter}
	if s.stopReading == nil {
		s.stopReading = func() {}
	}
	if s.stopWritingAfter == nil {
		s.stopWritingAfter = func(time.Duration) {}
	}
	return s
}

// watch has a's end stop what goes on at b: nothing more is read from b, and what a sent before has a
// short time to reach b. watch and alive are a's and b's, and may be nil.
func (r *relay) watch(a, b *side, watch func(gone func(), blocked func() error), alive func() error) {
	if watch == nil {
		return
	}
	watch(func() {
		r.gone.Store(true)
		b.stopReading()
		b.stopWritingAfter(abortGrace)
	}, alive)
}

// ended is called when a direction has ended well. The source of the first one is watched until the
// other one has ended, too: it can still be reset, though nothing is read from it any more.
func (r *relay) ended(dst, src *side) {
	r.mu.Lock()
	first := !r.halfDone
	r.halfDone = true
	r.mu.Unlock()
	if !first {
		dst.stopReading() // it was the source of the first direction: ends its waitReset
		return
	}
	if src.waitReset != nil {
		if err := src.waitReset(); err != nil {
			r.failed(err, dst, src)
		}
	}
}

// failed ends the relay for the first reason that it is given. After the end of a watched endpoint the
// direction that comes from it goes on alone, to deliver what arrived before.
func (r *relay) failed(err error, dst, src *side) {
	stopped := r.gone.Load() && !src.watched
	r.mu.Lock()
	if r.err == nil || !r.byPeer && !stopped {
		r.err, r.byPeer = err, !stopped
	}
	r.mu.Unlock()
	if stopped {
		return
	}
	dst.Abort()
	src.Abort()
}

// A direction passes bytes from src to dst.
type direction struct {
	relay    *relay
	dst, src *side
	copier   copier
	await    func(ready func()) bool // may be nil
	resume   func()                  // copy, bound once
	total    *atomic.Int64
	done     chan struct{} // closed at its end
}

func newDirection(r *relay, dst, src *side, canDst, canSrc *Capabilities, total *atomic.Int64) *direction {
	d := &direction{relay: r, dst: dst, src: src, copier: newCopier(dst.Endpoint, src.Endpoint, canDst, canSrc),
		await: canSrc.Await, total: total, done: make(chan struct{})}
	d.resume = d.copy
	return d
}

// start passes the bytes on in goroutines of its own, until done is closed.
func (d *direction) start() {
	if d.await == nil || !d.await(d.resume) {
		go d.copy()
	}
}

// copy passes bytes on until src ends or either fails, or until there is nothing to read and src will
// have it called again.
func (d *direction) copy() {
	for d.await == nil || !d.await(d.resume) {
		n, readErr, writeErr := d.copier.next()
		d.total.Add(int64(n))
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
