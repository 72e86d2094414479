package mux

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// With one processor, who reads what has come lets others run before all of it has
// been read.
func TestReadTakesTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cc, sc := newConns(t)
	cfg := linkConfig{ring: 1 << 20, pingInterval: time.Hour, silence: time.Hour}
	near, far := newLink(cc, cfg), newLink(sc, cfg)
	defer far.wait()
	defer near.wait()
	defer far.Close()
	defer near.Close()
	const size = turnSize * 3 / 2 // less than firstFlight: it leaves without an acknowledgement
	if err := near.write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all to be on its way", func() bool {
		near.mu.Lock()
		defer near.mu.Unlock()
		return near.ring.unsent() == 0 && near.ring.busy == nil
	})
	var turns atomic.Int64
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !stop.Load() {
			turns.Add(1)
			runtime.Gosched()
		}
	}()
	n, err := io.ReadFull(far, make([]byte, size))
	others := turns.Load()
	stop.Store(true)
	<-ended
	if err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if others < size/turnSize {
		t.Errorf("others ran %d times while %d bytes were read", others, size)
	}
}

// While somebody may be at a keyboard who writes has shorter turns, and who reads longer ones.
func TestTurnsWhileTyping(t *testing.T) {
	for _, typing := range []int{typingWriteTurn, typingReadTurn} {
		var a attention
		a.init()
		turns := turns{attention: &a, typing: typing}
		turn := func() (size int) {
			const step = 16 << 10
			for size = step; ; size += step {
				if turns.moved(step); turns.unshared == 0 {
					return size
				}
			}
		}
		if got := turn(); got != turnSize {
			t.Errorf("a turn is %d bytes, want %d", got, turnSize)
		}
		a.start = a.start.Add(-time.Second) // the clock has begun
		a.passedLittle(int64(time.Since(a.start)), 3, true)
		if got := turn(); got != typing {
			t.Errorf("a turn is %d bytes while somebody types, want %d", got, typing)
		}
		turns.close()
	}
}
