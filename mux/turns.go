package mux

import "runtime"

// turns are what a goroutine that moves much gives to others. With one processor
// it would go on until there is no more, and what the network brings meanwhile
// would wait: keystrokes, and acknowledgements without which the sender stops.
// close frees it.
type turns struct {
	poller
	attention *attention
	unpolled  int // bytes since the last poll
}

const (
	// pollEvery is how many bytes are moved between polls. More are slower for
	// keystrokes, fewer cost throughput, which is worth it only while somebody may be
	// about to answer: then it is expectantEvery.
	pollEvery      = 256 << 10
	expectantEvery = 128 << 10
)

// moved says that n bytes more have been moved. Others run when it is time: also
// other processes, when one of them may just have got a little to do. The system
// lets who moves much keep the processor for milliseconds.
func (t *turns) moved(n int) {
	every, expectant := pollEvery, t.attention.expectant()
	if expectant {
		every = expectantEvery
	}
	if t.unpolled += n; t.unpolled < every {
		return
	}
	t.unpolled = 0
	if !canPoll || runtime.GOMAXPROCS(0) > 1 {
		return
	}
	t.poll()
	if expectant {
		yield()
	}
}
