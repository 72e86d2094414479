package mux

import (
	"sync"
	"sync/atomic"
	"time"

	"adit/mux/link"
)

// Flow control of a stream has two halves. The reader's side owns the
// receiveWindow: how many bytes the peer may have outstanding. It grants them as
// credit, by control frames; the writer's side spends its sendCredit. yamux's
// own windows are set so wide that they never limit anything.

// sendCredit is the writer's half: how many bytes of frames the peer takes. Only
// the writer spends it, but the peer may revoke what is unused at any time.
type sendCredit struct {
	bytes atomic.Int64
	added chan struct{} // capacity 1: signalled when credit was added
}

// takeFrame takes credit for a frame with between least and most bytes of data,
// and returns their number; 0 when there is not enough.
func (c *sendCredit) takeFrame(least, most int) int {
	for {
		have := c.bytes.Load()
		n := min(most, int(have)-frameHeader)
		if n < least {
			return 0
		}
		if c.bytes.CompareAndSwap(have, have-int64(frameHeader+n)) {
			return n
		}
	}
}

// takeUnused takes up to n bytes for the peer to have back, and returns their
// number.
func (c *sendCredit) takeUnused(n int64) int64 {
	for {
		have := c.bytes.Load()
		n := min(n, have)
		if c.bytes.CompareAndSwap(have, have-n) {
			return n
		}
	}
}

// putBack undoes taking n bytes.
func (c *sendCredit) putBack(n int) { c.bytes.Add(int64(n)) }

// add adds credit that the peer grants.
func (c *sendCredit) add(n uint32) error {
	if c.bytes.Add(int64(n)) > 1<<32 {
		return link.ProtocolError("more credit than a window holds")
	}
	select {
	case c.added <- struct{}{}:
	default:
	}
	return nil
}

// receiveWindow is the reader's half for one stream. It starts small and grows
// while it is what limits a stream whose reader keeps up, so that idle and slow
// streams cost little memory and a bulk stream fills a long path.
type receiveWindow struct {
	notice   creditNotice
	buffer   *receiveBuffer // knows what the peer may send
	counted  bool           // the shared limit counts the initial credit
	size     atomic.Int64   // what the peer may have outstanding; written under windows.mu
	consumed atomic.Int64   // since the last grant

	// Guarded by windows.mu.
	since   time.Time // the last grant
	revoked int64     // what the peer was asked to return at most
}

// windows are the receive windows of a session's streams, and the budget that
// they grow from. When the budget is short, the peer is asked to return what
// windows that have grown no longer use.
type windows struct {
	initial, maximum, budget int64
	limit                    *CreditLimit // shared with other sessions; nil: none
	rtt                      func() time.Duration
	control                  *control

	mu         sync.Mutex
	open       map[uint32]*receiveWindow
	growth     int64 // bytes of the budget that are in use
	lastRevoke time.Time
}

const (
	// A stream that uses up its window within bulkPace may have bulkWindow,
	// however short the path is: credit is granted in quarters, and small frames
	// cost more.
	bulkWindow = 512 << 10
	bulkPace   = 400 * time.Millisecond
	// A stream that does not use a quarter of its window within bulkPace and
	// unusedRTTs round trips could do with less.
	unusedRTTs = 8
	// assumedRTT stands for a round-trip time that is not measured yet.
	assumedRTT = 50 * time.Millisecond
)

// add initializes the window of a new stream. It reports false if the shared limit
// has no initial credit left for it; the peer has that credit all the same, until
// the stream is refused and closed. Windows that are not used give some back then, for
// the next one.
func (w *windows) add(rw *receiveWindow, stream uint32, buffer *receiveBuffer) bool {
	rw.notice.stream, rw.buffer = stream, buffer
	rw.counted = w.limit.take(w.initial)
	rw.size.Store(w.initial)
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.since = time.Now()
	w.open[stream] = rw
	if !rw.counted {
		w.revokeUnused(rw.since)
	}
	return rw.counted
}

// remove gives back the budget of a stream that is closed.
func (w *windows) remove(rw *receiveWindow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[rw.notice.stream] == rw { // the peer may have used the id again
		delete(w.open, rw.notice.stream)
	}
	grown := w.grown(rw)
	w.growth -= grown
	if rw.counted {
		grown += w.initial
	}
	w.limit.give(grown)
}

// grown is how much of the budget a window uses. mu is held.
func (w *windows) grown(rw *receiveWindow) int64 { return rw.size.Load() - w.initial }

// consumed counts n bytes that the reader has taken, and grants the peer credit
// for them, a quarter of the window at a time.
func (w *windows) consumed(rw *receiveWindow, n int) {
	if rw.consumed.Add(int64(n)) < rw.size.Load()/4 {
		return
	}
	w.mu.Lock()
	w.replenish(rw)
	w.mu.Unlock()
}

// replenish grants credit for what has been consumed, if that is enough, and
// more if the window holds the peer up. mu is held.
func (w *windows) replenish(rw *receiveWindow) {
	used, size := rw.consumed.Load(), rw.size.Load()
	if used < size/4 || w.open[rw.notice.stream] != rw { // or the stream is closed
		return
	}
	now := time.Now()
	grant := used
	// A window that is used up in less than two round trips holds the peer up.
	pace := time.Duration(float64(now.Sub(rw.since)) * float64(size) / float64(used))
	if pace < 2*w.pathRTT() || pace < bulkPace && size < bulkWindow {
		more := w.grow(size, now)
		rw.size.Add(more)
		grant += more
	}
	rw.consumed.Add(-used)
	rw.since = now
	rw.buffer.allow(grant, rw.size.Load())
	w.control.sendCredit(&rw.notice, grant)
}

func (w *windows) pathRTT() time.Duration {
	if rtt := w.rtt(); rtt > 0 {
		return rtt
	}
	return assumedRTT
}

// grow takes up to a doubling of a window out of the budget, but never more than
// a quarter of what is left, so that something always is. mu is held.
func (w *windows) grow(size int64, now time.Time) int64 {
	wanted := min(size, w.maximum-size)
	more := min(wanted, (w.budget-w.growth)/4)
	if more < 4<<10 || !w.limit.take(more) {
		more = 0
	}
	w.growth += more
	if more < wanted {
		w.revokeUnused(now)
	}
	return more
}

// revokeUnused is revoke, at most once within bulkPace. mu is held.
func (w *windows) revokeUnused(now time.Time) {
	if now.Sub(w.lastRevoke) >= bulkPace {
		w.lastRevoke = now // first, because a window that shrinks may call grow
		w.revoke(now)
	}
}

// revoke makes windows that have grown and are not used shrink to their first
// size. mu is held.
func (w *windows) revoke(now time.Time) {
	unused := max(bulkPace, unusedRTTs*w.pathRTT())
	for stream, rw := range w.open {
		extra := w.grown(rw)
		if extra == 0 || rw.revoked > 0 || now.Sub(rw.since) < unused {
			continue
		}
		// What has been consumed and not granted again is simply kept.
		kept := min(extra, rw.consumed.Load())
		rw.consumed.Add(-kept)
		w.shrink(rw, kept)
		if rw.revoked = extra - kept; rw.revoked > 0 {
			w.control.send(controlFrame{controlRevoke, stream, uint32(rw.revoked)})
		}
	}
}

// shrink takes n bytes off a window. mu is held.
func (w *windows) shrink(rw *receiveWindow, n int64) {
	rw.size.Add(-n)
	w.growth -= n
	w.limit.give(n)
	w.replenish(rw) // what has been consumed may be enough now
}

// returned takes the peer's answer to a revocation. An error means that the peer
// gave back more than it was asked for.
func (w *windows) returned(stream uint32, n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw := w.open[stream]
	if rw == nil {
		return nil
	}
	if n > rw.revoked {
		return link.ProtocolError("%d bytes of credit returned, of %d", n, rw.revoked)
	}
	rw.revoked = 0
	rw.buffer.allow(-n, rw.size.Load()-n)
	w.shrink(rw, n)
	return nil
}
