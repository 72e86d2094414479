package mux

import "time"

// window is the reader's side of a stream's flow control: how many bytes the
// peer may have on their way. It starts small and grows while it is what
// limits a stream whose reader keeps up, so that idle and slow streams cost
// little and a bulk one fills a long path.
type window struct {
	size     int       // what the peer may have outstanding
	consumed int       // since the last credit
	since    time.Time // when that was
}

// A stream that uses up its window within bulkPace may have bulkWindow, however
// short the path is: credit comes in quarters, and what is sent in small pieces
// costs more.
const (
	bulkWindow = 512 << 10
	bulkPace   = 400 * time.Millisecond
)

// assumedRTT stands for a round-trip time not yet measured.
const assumedRTT = 50 * time.Millisecond

// consumed counts bytes that the reader has taken and gives the peer credit
// for them, a quarter of the window at a time.
func (s *Stream) consumed(n int) {
	w := &s.window
	w.consumed += n
	if w.consumed < w.size/4 {
		return
	}
	now := time.Now()
	rtt := s.session.RTT()
	if rtt == 0 {
		rtt = assumedRTT
	}
	// A window that is used up in less than two round trips holds the peer up.
	grant := w.consumed
	pace := time.Duration(float64(now.Sub(w.since)) * float64(w.size) / float64(w.consumed))
	if pace < 2*rtt || pace < bulkPace && w.size < bulkWindow {
		more := s.session.grow(w.size)
		w.size += more
		grant += more
	}
	w.consumed, w.since = 0, now
	s.session.control.sendCredit(s, grant)
}

// grow takes up to a doubling of a window out of the session's budget, never
// more than a quarter of what is left, so that something always is.
func (s *Session) grow(size int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := min(size, s.cfg.MaxWindow-size, (s.cfg.Budget-s.growth)/4)
	if more < 4<<10 {
		return 0
	}
	s.growth += more
	return more
}
