package mux

import (
	"sync/atomic"
	"time"
)

// window is the reader's side of a stream's flow control: how many bytes the
// peer may have on their way. It starts small and grows while it is what
// limits a stream whose reader keeps up, so that idle and slow streams cost
// little and a bulk one fills a long path. When the session has no more to
// grow by, the peer is asked to return what streams that have grown no longer
// use.
type window struct {
	size     atomic.Int64 // what the peer may have outstanding; changed under Session.mu
	consumed atomic.Int64 // since the last credit
	since    time.Time    // when that was; under Session.mu
	recalled int64        // what the peer is asked to return at most; under Session.mu
}

// A stream that uses up its window within bulkPace may have bulkWindow, however
// short the path is: credit comes in quarters, and what is sent in small pieces
// costs more.
const (
	bulkWindow = 512 << 10
	bulkPace   = 400 * time.Millisecond
)

// A stream that does not use a quarter of its window within bulkPace, and
// within so many round trips, could do with less.
const unusedRTTs = 8

// assumedRTT stands for a round-trip time not yet measured.
const assumedRTT = 50 * time.Millisecond

func (s *Session) windowRTT() time.Duration {
	if rtt := s.RTT(); rtt > 0 {
		return rtt
	}
	return assumedRTT
}

// grown is how much of the session's budget the stream's window uses.
func (s *Stream) grown() int64 { return s.window.size.Load() - int64(s.session.cfg.InitialCredit) }

// consumed counts bytes that the reader has taken and gives the peer credit
// for them, a quarter of the window at a time.
func (s *Stream) consumed(n int) {
	w := &s.window
	if w.consumed.Add(int64(n)) < w.size.Load()/4 {
		return
	}
	s.session.mu.Lock()
	s.session.replenish(s)
	s.session.mu.Unlock()
}

// replenish gives the peer credit for what has been read of the stream, if that
// is enough, and more where the window holds the peer up. s.mu is held.
func (s *Session) replenish(st *Stream) {
	w := &st.window
	used, size := w.consumed.Load(), w.size.Load()
	if used < size/4 {
		return
	}
	now := time.Now()
	grant := used
	// A window that is used up in less than two round trips holds the peer up.
	pace := time.Duration(float64(now.Sub(w.since)) * float64(size) / float64(used))
	if pace < 2*s.windowRTT() || pace < bulkPace && size < bulkWindow {
		more := s.grow(size, now)
		w.size.Add(more)
		grant += more
	}
	w.consumed.Add(-used)
	w.since = now
	s.control.sendCredit(st, grant)
}

// grow takes up to a doubling of a window out of the session's budget, never
// more than a quarter of what is left, so that something always is. s.mu is
// held.
func (s *Session) grow(size int64, now time.Time) int64 {
	wanted := min(size, int64(s.cfg.MaxWindow)-size)
	more := min(wanted, (int64(s.cfg.Budget)-s.growth)/4)
	if more < wanted && now.Sub(s.lastRecall) >= bulkPace {
		s.lastRecall = now // first, since a window that shrinks may come here
		s.recall(now)
	}
	if more < 4<<10 {
		return 0
	}
	s.growth += more
	return more
}

// recall has windows that have grown and are not used shrink to what they were
// at first. s.mu is held.
func (s *Session) recall(now time.Time) {
	unused := max(bulkPace, unusedRTTs*s.windowRTT())
	for id, st := range s.streams {
		w := &st.window
		extra := st.grown()
		if extra == 0 || w.recalled > 0 || now.Sub(w.since) < unused {
			continue
		}
		// What has been read and not given back yet is kept.
		kept := min(extra, w.consumed.Load())
		w.consumed.Add(-kept)
		s.shrink(st, kept)
		if w.recalled = extra - kept; w.recalled > 0 {
			s.control.send(controlFrame{controlRecall, id, uint32(w.recalled)})
		}
	}
}

// shrink takes n bytes off a stream's window. s.mu is held.
func (s *Session) shrink(st *Stream, n int64) {
	st.window.size.Add(-n)
	s.growth -= n
	s.replenish(st) // what has been read may be enough now
}

// returned is the peer's answer to a recall.
func (s *Session) returned(stream uint32, n int64) {
	s.mu.Lock()
	st := s.streams[stream]
	asked := int64(0)
	if st != nil {
		if asked = st.window.recalled; n <= asked {
			st.window.recalled = 0
			s.shrink(st, n)
		}
	}
	s.mu.Unlock()
	if st != nil && n > asked {
		st.end(protocolError("%d bytes of credit returned, of %d", n, asked), endLocal)
	}
}
