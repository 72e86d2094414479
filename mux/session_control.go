package mux

import (
	"time"

	"adit/mux/link"
)

// readControl handles the peer's control frames until the session ends.
func (s *Session) readControl() {
	s.control.read(s.handleControl)
	// Only the end of the session ends the control stream.
	s.link.Fail(link.ProtocolError("the control stream ended"))
}

func (s *Session) handleControl(f controlFrame) {
	switch f.typ {
	case controlCredit:
		if st := s.stream(f.stream); st != nil {
			if err := st.credit.add(f.value); err != nil {
				st.end(err, endLocal)
			}
		}
	case controlRevoke:
		if st := s.stream(f.stream); st != nil {
			s.control.sendReturned(&st.window.notice, st.credit.takeUnused(int64(f.value)))
		}
	case controlReturned:
		if err := s.windows.returned(f.stream, int64(f.value)); err != nil {
			if st := s.stream(f.stream); st != nil {
				st.end(err, endLocal)
			}
		}
	case controlReset:
		s.resetByPeer(f.stream, Code(min(f.value, 255)))
	case controlGoingAway:
		s.mu.Lock()
		s.peerAway = true
		s.mu.Unlock()
		s.goAway.Do(func() { close(s.goingAway) })
	case controlMigrate:
		select {
		case s.migrations <- time.Duration(f.value) * time.Millisecond:
		default: // one is pending already
		}
	}
}
