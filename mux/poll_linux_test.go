package mux

import (
	"runtime"
	"sync/atomic"
	"testing"

	"adit/internal/testnet"
)

// With one processor, who waits for the network and has something to read gets to
// run when somebody polls.
func TestPoll(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	x, y := testnet.Pair(t, "tcp")
	var reads atomic.Int64
	done := make(chan error, 1)
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := y.Read(b); err != nil {
				done <- err
				return
			}
			reads.Add(1)
		}
	}()
	p := turns{attention: new(attention), typing: typingWriteTurn}
	defer p.close()
	p.poll() // it reads now
	late := 0
	for n := range int64(100) {
		if _, err := x.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		p.moved(turnSize)
		for reads.Load() != n+1 { // at times Go's scheduler has who has just run come first
			if late++; late > 20 {
				t.Fatalf("%d of %d bytes have been read", reads.Load(), n+1)
			}
			runtime.Gosched()
		}
	}
	x.Close()
	<-done
}
