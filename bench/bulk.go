//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A flow sends chunks of noise through one connection as fast as they are taken, each beginning
// with its number, and checks at the other end that all arrive in order. The last one says that it
// is the last: no tunnel has to pass on the end of a connection for it.
type flow struct {
	from, to net.Conn
	received atomic.Int64
	most     int64         // bytes on their way
	progress chan struct{} // has room for one, and has it after something was received
}

const (
	chunkSize = 64 << 10
	stampSize = 8
	lastChunk = 1 << 63
)

// noise cannot be compressed.
var noise = func() []byte {
	b := make([]byte, chunkSize)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b)
	return b
}()

func (f *flow) send(stop *atomic.Bool) error {
	chunk := append([]byte(nil), noise...)
	for number := uint64(0); ; number++ {
		last := stop.Load()
		stamp := number
		for int64(number+1)*chunkSize-f.received.Load() > f.most && !last {
			if _, more := <-f.progress; !more {
				return nil // the receiver says why
			}
			last = stop.Load()
		}
		if last {
			stamp |= lastChunk
		}
		binary.BigEndian.PutUint64(chunk, stamp)
		if _, err := f.from.Write(chunk); err != nil {
			return fmt.Errorf("send chunk %d: %w", number, err)
		}
		if last {
			return nil
		}
	}
}

func (f *flow) receive(buffer int) error {
	var (
		buf     = make([]byte, buffer)
		stamp   [stampSize]byte
		number  uint64 // of the chunk that is arriving
		at      int    // bytes of it that have arrived
		atLast  bool
		endings = noise[chunkSize-1]
	)
	defer close(f.progress)
	for {
		n, err := f.to.Read(buf)
		f.received.Add(int64(n))
		select {
		case f.progress <- struct{}{}:
		default:
		}
		for b := buf[:n]; len(b) > 0; {
			if atLast && at == 0 {
				return fmt.Errorf("%d bytes more than were sent", len(b))
			}
			if at < stampSize {
				k := copy(stamp[at:], b)
				at, b = at+k, b[k:]
				if at < stampSize {
					continue
				}
				got := binary.BigEndian.Uint64(stamp[:])
				atLast = got&lastChunk != 0
				if got&^lastChunk != number {
					return fmt.Errorf("chunk %d begins with %x: bytes were lost or garbled", number, stamp)
				}
			}
			k := min(chunkSize-at, len(b))
			at += k
			if at == chunkSize {
				if b[k-1] != endings {
					return fmt.Errorf("chunk %d ends with %x: bytes were garbled", number, b[k-1])
				}
				number, at = number+1, 0
			}
			b = b[k:]
		}
		if atLast && at == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive chunk %d: %w", number, err)
		}
	}
}

// Bulk is many flows in one direction.
type bulk struct {
	flows  []*flow
	stop   atomic.Bool
	all    sync.WaitGroup
	failed chan struct{} // closed at the first error

	mu  sync.Mutex
	err error
}

// mostUnderWay bounds the bytes that all streams together have on their way, far above what a path
// needs: thousands of megabytes fit into the buffers of the system, and have to arrive in the end.
const mostUnderWay = 64 << 20

// startBulk begins to send in all the pairs, from the near end if up.
func (s *stage) startBulk(pairs []pair, up bool) *bulk {
	most := int64(mostUnderWay)
	if s.path.rate > 0 {
		const inSeconds = 2
		most = min(most, int64(inSeconds*s.path.rate/8))
	}
	// Many large buffers would not fit into the processor's caches.
	buffer := 256 << 10
	if len(pairs) > 8 {
		buffer = 64 << 10
	}
	b := &bulk{failed: make(chan struct{})}
	for _, p := range pairs {
		f := &flow{from: p.far, to: p.near, most: max(most/int64(len(pairs)), 2*chunkSize), progress: make(chan struct{}, 1)}
		if up {
			f.from, f.to = f.to, f.from
		}
		b.flows = append(b.flows, f)
		b.all.Go(func() { b.note(f.send(&b.stop)) })
		b.all.Go(func() { b.note(f.receive(buffer)) })
	}
	return b
}

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

// run lets the flows go on for a time, which ends early when one fails.
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

// end stops the flows and waits until all that was sent has arrived.
func (b *bulk) end() error {
	b.stop.Store(true)
	b.all.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// A window is what passed in a part of the time.
type window struct {
	bytes int64
	took  time.Duration
	cpu   time.Duration // of the tunnel's processes
}

const mib = 1 << 20

func (w *window) add(more window) {
	w.bytes, w.took, w.cpu = w.bytes+more.bytes, w.took+more.took, w.cpu+more.cpu
}

func (w window) mibPerSecond() float64 { return float64(w.bytes) / mib / w.took.Seconds() }

func (w window) cpuPerGiB() float64 {
	return w.cpu.Seconds() / (float64(w.bytes) / (1 << 30))
}

// measure returns what passes while during runs.
func (b *bulk) measure(cpu func() time.Duration, during func() error) (window, error) {
	before, bytes, start := cpu(), b.received(), time.Now()
	err := during()
	return window{b.received() - bytes, time.Since(start), cpu() - before}, err
}
