package mux

import "time"

// The writer's side of a stream's flow control: credit is how many bytes of
// frames the peer takes. Only the writer uses it up, but the peer may ask for
// what is unused at any time.

// blockedEvery is how often a Write that waits looks whether it still should.
const blockedEvery = 250 * time.Millisecond

// takeFrame takes credit for a frame of least to most bytes of data, and gives
// their number; 0 when there is not enough.
func (s *Stream) takeFrame(least, most int) int {
	for {
		c := s.credit.Load()
		n := min(most, int(c)-frameHeader)
		if n < least {
			return 0
		}
		if s.credit.CompareAndSwap(c, c-int64(frameHeader+n)) {
			return n
		}
	}
}

// takeUnused takes up to n bytes of credit, for the peer to have back, and gives
// their number.
func (s *Stream) takeUnused(n int64) int64 {
	for {
		c := s.credit.Load()
		n := min(n, c)
		if s.credit.CompareAndSwap(c, c-n) {
			return n
		}
	}
}

// addCredit adds credit that the peer gives.
func (s *Stream) addCredit(n uint32) {
	if s.credit.Add(int64(n)) > 1<<32 {
		s.end(protocolError("more credit than a window holds"), endLocal)
		return
	}
	select {
	case s.credited <- struct{}{}:
	default:
	}
}

// reserve waits until at least one byte may be sent and takes up to want.
func (s *Stream) reserve(want int) (int, error) {
	var tick *time.Timer
	var ticks <-chan time.Time
	for {
		if err := s.writable(); err != nil {
			return 0, err
		}
		if n := s.takeFrame(1, want); n > 0 {
			return n, nil
		}
		if tick == nil {
			tick = time.NewTimer(blockedEvery)
			defer tick.Stop()
			ticks = tick.C
		}
		select {
		case <-s.credited:
		case <-s.done:
		case <-ticks:
			tick.Reset(blockedEvery)
			s.mu.Lock()
			blocked := s.blocked
			s.mu.Unlock()
			if blocked != nil {
				if err := blocked(); err != nil {
					return 0, err
				}
			}
		}
	}
}
