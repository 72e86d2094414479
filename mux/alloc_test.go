//go:build !race

package mux // under the race detector pools drop what they are given

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"adit/tunnel"
)

// A steady stream allocates no memory for its frames. What is left is small and
// comes once in many frames: timers of waiting goroutines, and what the garbage
// collector takes from the pools.
func TestStreamAllocations(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	wanted, got := make(chan int), make(chan bool)
	go func() {
		for n := range wanted {
			for n > 0 {
				b, err := far.View()
				if err != nil {
					break
				}
				far.Take(len(b))
				n -= len(b)
			}
			got <- n == 0
		}
	}()
	defer close(wanted)
	near.core.frameSize = func() int { return MaxFrame } // as on a fast path
	small := make([]byte, near.Headroom()+100)
	pulled := 0
	for name, f := range map[string]struct {
		size int
		send func() (int, error)
	}{
		"WriteOwned": {tunnel.BufferSize, func() (int, error) { return near.WriteOwned(tunnel.NewBuffer(), tunnel.BufferSize) }},
		"WriteFrom": {tunnel.BufferSize, func() (int, error) {
			given := false
			n, _, err := near.WriteFrom(func(size int) (*tunnel.Buffer, int, error) {
				if given {
					return nil, 0, nil
				}
				given = true
				return tunnel.NewBuffer(), size, nil
			})
			if n == tunnel.BufferSize || err != nil {
				pulled++
				return n, err
			}
			rest, err := near.WriteOwned(tunnel.NewBuffer(), tunnel.BufferSize-n) // the window has not grown
			return n + rest, err
		}},
		"WriteBuffer": {100, func() (int, error) { return near.WriteBuffer(small) }},
	} {
		frame := func() {
			wanted <- f.size
			if n, err := f.send(); n != f.size || err != nil {
				t.Fatal(n, err)
			}
			if !<-got {
				t.Fatal("the bytes do not arrive")
			}
		}
		for range 200 { // let the window and the pools grow
			frame()
		}
		const frames = 500
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if n := testing.AllocsPerRun(frames, frame); n > 8 {
			t.Errorf("%s: %v allocations per frame", name, n)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / frames; n > tunnel.BufferSize/4 {
			t.Errorf("%s: %v bytes allocated per frame", name, n)
		}
	}
	if pulled < 500 {
		t.Errorf("WriteFrom has written %d frames", pulled)
	}
}

// Frames on their way to a stream's reader allocate nothing.
func TestReceiveBufferAllocations(t *testing.T) {
	in := newReceiveBuffer(1<<40, new(atomic.Int64))
	c := &adapter{limit: 1 << 62, buffers: map[uint32]*receiveBuffer{3: in}, updateAfter: 1 << 30}
	out := &streamReader{adapter: c, stream: 3, in: in}
	for _, size := range []int{1, minPiece, MaxFrame} {
		frame := dataFrame(3, make([]byte, size))
		r := &pieces{n: 16 << 10}
		if n := testing.AllocsPerRun(1000, func() {
			r.b = frame
			if _, err := c.read(r, nil); err != io.EOF {
				t.Fatal(err)
			}
			for left := size; left > 0; {
				b, err := in.view(left)
				if err != nil {
					t.Fatal(err)
				}
				out.take(len(b))
				left -= len(b)
			}
			out.read = 0
		}); n >= 1 {
			t.Errorf("%v allocations for a frame of %d bytes", n, size)
		}
	}
}
