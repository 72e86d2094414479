package mux

import (
	"runtime"
	"sync/atomic"
	"time"
)

// attention is what a link pays to streams that have little to say: somebody at a
// keyboard, or a program that asks, waits for the answer, and asks again.
type attention struct {
	start  time.Time    // of the clock that the times are on
	little atomic.Int64 // when a frame with little in it has passed

	// The stream that such frames are of, and how many have gone to and fro without
	// a pause. Both are hints: two goroutines may change them at once.
	stream    atomic.Uint32
	sent      atomic.Bool // the last one was sent, not received
	crossings atomic.Int32
	quick     chan struct{} // has something in it when there have been busyAfter
}

const (
	// expectFor is how long after a frame with little in it has passed the application
	// at the end of it, or the peer, may be waiting for a processor because of it, and
	// then answer.
	expectFor = 1 * time.Millisecond
	// tailFor is how long after much of a stream has passed a frame of it with little
	// is not somebody's at a keyboard, but what was left.
	tailFor = 1 * time.Second
	// typingFor is how long after such a frame another may come.
	typingFor = 2 * time.Second
	// busyFor is how long the network is looked at again and again after a frame of a
	// stream that goes to and fro, and how soon the next one comes of one that does.
	// On a path that takes longer nobody looks.
	busyFor = 200 * time.Microsecond
	// busyAfter is how many frames it takes.
	busyAfter = 16
)

func (a *attention) init() {
	a.start = time.Now()
	a.quick = make(chan struct{}, 1)
}

// passed notes a frame with n bytes of a stream's data. much is when such a frame,
// in the same direction, has last had much in it.
func (a *attention) passed(stream uint32, n int, sent bool, much *time.Duration) {
	now := time.Since(a.start)
	if n > urgent {
		*much = now
		a.crossings.Store(0)
		return
	}
	if *much != 0 && now-*much < tailFor {
		return
	}
	a.passedLittle(int64(now), stream, sent)
}

func (a *attention) passedLittle(now int64, stream uint32, sent bool) {
	pause := now - a.little.Swap(now)
	if a.stream.Swap(stream) != stream || a.sent.Swap(sent) == sent || pause > int64(busyFor) {
		a.crossings.Store(0)
		return
	}
	if a.crossings.Add(1) == busyAfter {
		select {
		case a.quick <- struct{}{}:
		default:
		}
	}
}

// typing says that somebody may be at a keyboard.
func (a *attention) typing() bool { return a.littleWithin(typingFor) }

// expectant says that a frame with little in it has passed just now.
func (a *attention) expectant() bool { return a.littleWithin(expectFor) }

func (a *attention) littleWithin(d time.Duration) bool {
	t := a.little.Load()
	return t != 0 && time.Since(a.start)-time.Duration(t) < d
}

// busyPoll keeps the process awake while a stream goes to and fro, and it alone:
// to be woken takes longer than the next frame. It returns when done is closed.
func (a *attention) busyPoll(done <-chan struct{}) {
	var network poller
	defer network.close()
	for {
		select {
		case <-done:
			return
		case <-a.quick:
		}
		for at := time.Since(a.start); a.crossings.Load() >= busyAfter; {
			network.poll()
			yield()
			now := time.Since(a.start)
			busyPolled.Add(int64(now - at))
			at = now
			if runtime.GOMAXPROCS(0) > 1 || at-time.Duration(a.little.Load()) > busyFor {
				a.crossings.Store(0)
			}
		}
	}
}

var busyPolled atomic.Int64

// BusyPolled is how long this process has kept itself awake, in all, for streams
// that go to and fro: time in which it used the processor without need.
func BusyPolled() time.Duration { return time.Duration(busyPolled.Load()) }
