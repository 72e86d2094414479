//go:build linux

package main

import (
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A bottleneck is one direction of an emulated path. It computes when data that arrives now leaves
// at the other end; the caller waits until then.
type bottleneck struct {
	path
	passed atomic.Int64 // bytes delivered

	mu     sync.Mutex
	random rand.Rand // of lost packets
	free   time.Time // when the queue is empty again
}

func newBottleneck(p path) *bottleneck {
	return &bottleneck{path: p, random: *rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
}

// arrive queues n bytes and returns when they are due at the other end, or false if they are lost
// or the queue is full.
func (b *bottleneck) arrive(n int) (due time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loss > 0 && b.random.Float64() < b.loss {
		return time.Time{}, false
	}
	now := time.Now()
	if b.free.Before(now) {
		b.free = now
	}
	if b.rate > 0 {
		if b.free.Sub(now) > b.depth {
			return time.Time{}, false
		}
		b.free = b.free.Add(time.Duration(float64(n) * 8 / b.rate * 1e9))
	}
	return b.free.Add(b.rtt / 2), true
}

// backlog returns how long the queue takes to drain.
func (b *bottleneck) backlog() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.free), 0)
}

// A parcel is data in flight.
type parcel struct {
	data []byte
	due  time.Time
}

// deliver writes parcels when they are due, until the channel is closed or a write fails.
func (b *bottleneck) deliver(w io.Writer, parcels <-chan parcel) error {
	// nanosleep on a locked thread wakes more precisely than Go's timers.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for p := range parcels {
		if d := time.Until(p.due); d > 0 {
			ts := unix.NsecToTimespec(int64(d))
			for unix.Nanosleep(&ts, &ts) == unix.EINTR {
			}
		}
		if _, err := w.Write(p.data); err != nil {
			return err
		}
		b.passed.Add(int64(len(p.data)))
	}
	return nil
}
