package mux

import (
	"io"
	"sync"
)

// controlStream is the id of the yamux stream that carries control frames.
const controlStream = 1

// control is the session's channel for what must not wait behind a stream's
// data: credit and resets. One goroutine writes and one reads; queueing a frame
// never blocks.
type control struct {
	adapter *adapter

	mu      sync.Mutex
	wake    sync.Cond
	frames  []controlFrame
	notices []*creditNotice // with something to announce, each once
	stopped bool
}

// creditNotice is what the control stream has to announce about a stream's
// credit. Its fields but stream are guarded by control.mu.
type creditNotice struct {
	stream   uint32
	granted  int64 // more credit for the peer
	returned int64 // credit of this side that is given back …
	revoked  bool  // … because the peer has revoked it; returned may be 0
}

func newControl(a *adapter) *control {
	c := &control{adapter: a}
	c.wake.L = &c.mu
	return c
}

// send queues a frame. Each stream sends one reset at most, so the queue is
// bounded by the number of streams.
func (c *control) send(f controlFrame) {
	c.mu.Lock()
	c.frames = append(c.frames, f)
	c.wake.Signal()
	c.mu.Unlock()
}

// sendCredit queues n more bytes of credit for the peer; what is queued already
// is added up.
func (c *control) sendCredit(notice *creditNotice, n int64) {
	c.mu.Lock()
	c.queue(notice)
	notice.granted += n
	c.mu.Unlock()
}

// sendReturned queues the answer to a revocation: n bytes of credit are given back.
func (c *control) sendReturned(notice *creditNotice, n int64) {
	c.mu.Lock()
	c.queue(notice)
	notice.returned, notice.revoked = notice.returned+n, true
	c.mu.Unlock()
}

// queue puts a notice into notices. mu is held.
func (c *control) queue(notice *creditNotice) {
	if notice.granted == 0 && !notice.revoked {
		c.notices = append(c.notices, notice)
		c.wake.Signal()
	}
}

// stop ends write.
func (c *control) stop() {
	c.mu.Lock()
	c.stopped = true
	c.wake.Signal()
	c.mu.Unlock()
}

// write sends what is queued, until stop or the end of the link.
func (c *control) write() {
	var header [yamuxHeader]byte
	var b []byte
	for {
		c.mu.Lock()
		for len(c.frames) == 0 && len(c.notices) == 0 && !c.stopped {
			c.wake.Wait()
		}
		if c.stopped {
			c.mu.Unlock()
			return
		}
		b = c.appendQueued(append(b[:0], header[:]...))
		c.mu.Unlock()
		// Not above MaxFrame, which bounds yamux's frames.
		for p := b; len(p) > yamuxHeader; {
			n := min(len(p), yamuxHeader+MaxFrame)
			if c.adapter.writeData(controlStream, p[:n], nil) != nil {
				return // the session is over
			}
			p = p[n-yamuxHeader:]
		}
		if cap(b) > 64<<10 {
			b = nil
		}
	}
}

// appendQueued appends all that is queued to b, and empties the queue. mu is
// held.
func (c *control) appendQueued(b []byte) []byte {
	for _, f := range c.frames {
		b = appendControl(b, f)
	}
	for _, n := range c.notices {
		if n.granted > 0 {
			b = appendControl(b, controlFrame{controlCredit, n.stream, uint32(n.granted)})
		}
		if n.revoked {
			b = appendControl(b, controlFrame{controlReturned, n.stream, uint32(n.returned)})
		}
		n.granted, n.returned, n.revoked = 0, 0, false
	}
	clear(c.notices)
	c.frames, c.notices = c.frames[:0], c.notices[:0]
	return b
}

// read calls handle with each of the peer's control frames, and returns when the
// control stream ends.
func (c *control) read(handle func(controlFrame)) {
	var b [controlSize]byte
	in := c.adapter.reader(controlStream)
	for {
		if _, err := io.ReadFull(&in, b[:]); err != nil {
			return
		}
		handle(parseControl(b))
	}
}
