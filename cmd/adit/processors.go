package main

import (
	"os"
	"runtime"
	"sync"
	"time"

	"adit/mux"
)

// How the number of processors follows the load.
const (
	loadEvery   = 200 * time.Millisecond
	growAbove   = 0.95 // of the processors in use
	shrinkBelow = 0.7  // of half of them
	shrinkAfter = 25   // looks in a row
)

// fitProcessors has Go use as few processors as the load needs, until the
// function that it returns is called. A tunnel passes each byte from goroutine
// to goroutine; between processors that costs a third more than on one, in
// wake-ups and cold caches. GOMAXPROCS in the environment is left as it is.
func fitProcessors() (stop func()) {
	most := runtime.GOMAXPROCS(0)
	if most == 1 || os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	if _, ok := processTime(); !ok {
		return func() {}
	}
	f := fitting{most: most, now: 1}
	runtime.GOMAXPROCS(f.now)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(loadEvery)
		defer ticker.Stop()
		then, before := time.Now(), neededTime()
		for {
			select {
			case <-done:
				return
			case at := <-ticker.C:
				used := neededTime()
				if n := f.next(float64(used-before) / float64(at.Sub(then))); n != runtime.GOMAXPROCS(0) {
					runtime.GOMAXPROCS(n)
				}
				before, then = used, at
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		runtime.GOMAXPROCS(most)
	}
}

// neededTime is the processor time that this process has used and could not have done
// without.
func neededTime() time.Duration {
	used, _ := processTime()
	return used - mux.BusyPolled()
}

// fitting decides how many processors to use, from 1 to most.
type fitting struct {
	most, now int
	low       int // looks in a row at which half would have done
}

// next takes how many processors were busy since the last look.
func (f *fitting) next(busy float64) int {
	switch {
	case busy > growAbove*float64(f.now):
		f.now, f.low = min(2*f.now, f.most), 0
	case busy < shrinkBelow*float64(f.now)/2 && f.now > 1:
		if f.low++; f.low >= shrinkAfter {
			f.now, f.low = (f.now+1)/2, 0
		}
	default:
		f.low = 0
	}
	return f.now
}
