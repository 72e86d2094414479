//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A bulk is flows in one direction that run at once.
type bulk struct {
	flows  []*flow
	stop   atomic.Bool
	all    sync.WaitGroup
	failed chan struct{} // closed at the first error

	mu  sync.Mutex
	err error
}

// mostInFlight bounds the bytes of all flows together, far above what a path needs: gigabytes would fit
// into socket buffers, and end waits until everything has arrived.
const mostInFlight = 64 << 20

// mostWithLoss is mostInFlight for a path that may carry 0.3 MiB/s.
const mostWithLoss = 2 << 20

// startBulk starts a flow in every pair.
func (s *stage) startBulk(pairs []pair, to direction) *bulk {
	most := int64(mostInFlight)
	if s.path.rate > 0 {
		const inSeconds = 2
		most = min(most, int64(inSeconds*s.path.rate/8))
	}
	if s.path.loss > 0 {
		most = min(most, mostWithLoss)
	}
	// Many large buffers exceed the processor's caches.
	buffer := 256 << 10
	if len(pairs) > 8 {
		buffer = 64 << 10
	}
	b := &bulk{failed: make(chan struct{})}
	for _, p := range pairs {
		f := &flow{from: p.target, to: p.client, most: max(most/int64(len(pairs)), 2*chunkSize), progress: make(chan struct{}, 1)}
		if to == up {
			f.from, f.to = f.to, f.from
		}
		b.flows = append(b.flows, f)
		b.all.Go(func() { b.note(f.send(&b.stop)) })
		b.all.Go(func() { b.note(f.receive(buffer)) })
	}
	return b
}

// note records the first error and closes the connections.
func (b *bulk) note(err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		close(b.failed)
		for _, f := range b.flows {
			f.from.Close()
			f.to.Close()
		}
	}
}

func (b *bulk) received() (n int64) {
	for _, f := range b.flows {
		n += f.received.Load()
	}
	return n
}

// run waits for d, or until a flow fails or ctx ends; then it ends the flows.
func (b *bulk) run(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.failed:
		return b.end()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), b.end())
	}
}

// end stops the flows and waits until everything sent has arrived.
func (b *bulk) end() error {
	b.stop.Store(true)
	b.all.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// A window is what a bulk transferred in a part of its time.
type window struct {
	bytes int64
	took  time.Duration
	cpu   time.Duration // processor time of client and server
}

const mib = 1 << 20

func (w window) mibPerSecond() float64 { return float64(w.bytes) / mib / w.took.Seconds() }

func (w window) cpuPerGiB() float64 {
	return w.cpu.Seconds() / (float64(w.bytes) / (1 << 30))
}

// warmed runs the flows for warm, measures them while during runs, and ends them.
func (b *bulk) warmed(ctx context.Context, warm time.Duration, cpu func() time.Duration, during func() error) (window, error) {
	if err := b.run(ctx, warm); err != nil {
		return window{}, err
	}
	before, bytes, start := cpu(), b.received(), time.Now()
	err := during()
	w := window{b.received() - bytes, time.Since(start), cpu() - before}
	if err == nil && w.bytes == 0 {
		err = errors.New("no data arrived")
	}
	return w, errors.Join(err, b.end())
}
