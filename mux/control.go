package mux

import (
	"io"
	"sync"
	"time"
)

// controlStream is the number of the yamux stream that carries control frames.
const controlStream = 1

// control is the session's channel for what must not wait behind a stream's
// data: credits and resets. One goroutine writes, one reads; whoever queues a
// frame never blocks.
type control struct {
	session *Session

	mu      sync.Mutex
	wake    sync.Cond
	frames  []controlFrame
	credits []*Stream // with credit to announce, given or returned, each once
	stopped bool
}

func newControl(s *Session) *control {
	c := &control{session: s}
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

// sendCredit queues n more bytes of credit for st; what is queued already is
// added up.
func (c *control) sendCredit(st *Stream, n int64) {
	c.mu.Lock()
	c.queue(st)
	st.owed += n
	c.mu.Unlock()
}

// sendReturned queues the answer that n bytes of credit are returned, in the
// same way.
func (c *control) sendReturned(st *Stream, n int64) {
	c.mu.Lock()
	c.queue(st)
	st.returned, st.asked = st.returned+n, true
	c.mu.Unlock()
}

// queue puts st into credits. mu is held.
func (c *control) queue(st *Stream) {
	if st.owed == 0 && !st.asked {
		c.credits = append(c.credits, st)
		c.wake.Signal()
	}
}

func (c *control) stop() {
	c.mu.Lock()
	c.stopped = true
	c.wake.Signal()
	c.mu.Unlock()
}

func (c *control) write() {
	var header [yamuxHeader]byte
	var b []byte
	for {
		c.mu.Lock()
		for len(c.frames) == 0 && len(c.credits) == 0 && !c.stopped {
			c.wake.Wait()
		}
		if c.stopped {
			c.mu.Unlock()
			return
		}
		b = append(b[:0], header[:]...)
		for _, f := range c.frames {
			b = appendControl(b, f)
		}
		for _, st := range c.credits {
			if st.owed > 0 {
				b = appendControl(b, controlFrame{controlCredit, st.yamux.StreamID(), uint32(st.owed)})
			}
			if st.asked {
				b = appendControl(b, controlFrame{controlReturned, st.yamux.StreamID(), uint32(st.returned)})
			}
			st.owed, st.returned, st.asked = 0, 0, false
		}
		clear(c.credits)
		c.frames, c.credits = c.frames[:0], c.credits[:0]
		c.mu.Unlock()
		// Not above MaxFrame, which bounds yamux's frames.
		for p := b; len(p) > yamuxHeader; {
			n := min(len(p), yamuxHeader+MaxFrame)
			if c.session.conn.writeData(controlStream, p[:n]) != nil {
				return // the session is over
			}
			p = p[n-yamuxHeader:]
		}
		if cap(b) > 64<<10 {
			b = nil
		}
	}
}

func (c *control) read() {
	var b [controlSize]byte
	in := c.session.conn.reader(controlStream)
	for {
		if _, err := io.ReadFull(&in, b[:]); err != nil {
			// Only the end of the session ends the control stream.
			c.session.link.fail(protocolError("the control stream ended"))
			return
		}
		f := parseControl(b)
		switch f.typ {
		case controlCredit:
			if st := c.session.stream(f.stream); st != nil {
				st.addCredit(f.value)
			}
		case controlRecall:
			if st := c.session.stream(f.stream); st != nil {
				c.sendReturned(st, st.takeUnused(int64(f.value)))
			}
		case controlReturned:
			c.session.returned(f.stream, int64(f.value))
		case controlReset:
			c.session.resetBy(f.stream, Code(min(f.value, 255)))
		case controlAway:
			if !closed(c.session.away) {
				close(c.session.away)
			}
		case controlMove:
			select {
			case c.session.move <- time.Duration(f.value) * time.Millisecond:
			default: // it has been asked for already
			}
		}
	}
}
