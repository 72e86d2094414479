package mux

import "runtime"

// turns are what a goroutine that moves much gives to others. With one processor
// it would go on until there is no more, and what the network brings meanwhile
// would wait: keystrokes, and acknowledgements without which the sender stops.
// close frees it.
type turns struct {
	poller
	attention *attention
	typing    int // bytes in a turn while somebody may be at a keyboard
	unshared  int // bytes since others could run
}

// turnSize is how many bytes are moved in a turn. More are slower for keystrokes,
// fewer cost throughput. While somebody may be at a keyboard who writes has shorter
// turns, for what was typed to get into the next message. Who reads has longer ones:
// what was typed comes after all that was on its way before it.
const (
	turnSize        = 256 << 10
	typingWriteTurn = 128 << 10
	typingReadTurn  = 384 << 10
)

// moved says that n bytes more have been moved. Others run when it is time: also
// other processes, when one of them may just have got a little to do. The system
// lets who moves much keep the processor for milliseconds.
func (t *turns) moved(n int) {
	t.unshared += n
	if t.unshared < min(turnSize, t.typing) {
		return
	}
	size := turnSize
	if t.attention.typing() {
		size = t.typing
	}
	if t.unshared < size {
		return
	}
	t.unshared = 0
	polls := canPoll && runtime.GOMAXPROCS(0) == 1
	if polls {
		t.poll()
	}
	// Two goroutines that wake each other, as they do who write the link and who read
	// a socket for it, run by turns before any that the network has woken.
	runtime.Gosched()
	if polls && t.attention.expectant() {
		yield()
	}
}
