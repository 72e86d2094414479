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
	p := turns{attention: new(attention)}
	defer p.close()
	p.poll() // it reads now
	for n := range int64(100) {
		if _, err := x.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		p.moved(pollEvery)
		runtime.Gosched() // both can run, in either order …
		runtime.Gosched() // … and at times who has just run comes first
		if got := reads.Load(); got != n+1 {
			t.Fatalf("%d of %d bytes have been read", got, n+1)
		}
	}
	x.Close()
	<-done
}
