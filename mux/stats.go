package mux

import (
	"net"
	"time"
)

// Stats is what a session is doing. Counts are of the whole life of the session,
// also across resumptions of its link.
type Stats struct {
	// Streams is the number of streams that are not closed.
	Streams int
	// Received and Sent are bytes of the link's stream: the data of all streams
	// with their framing, without that of the WebSocket and of TLS, and without
	// what was sent again.
	Received, Sent uint64
	// Queued is how many bytes wait to be written to the connection, and
	// Unacknowledged how many are kept because the peer has not acknowledged
	// them; the former are among the latter.
	Queued, Unacknowledged int
	// RTT is the smoothed round-trip time, 0 while it is unknown.
	RTT time.Duration
	// Connected says whether the link has a connection at the moment, and Since
	// when it got or lost it.
	Connected bool
	Since     time.Time
	// Resumes is how often the session went on with a new connection, and
	// Replayed how many bytes were sent again for that.
	Resumes  int
	Replayed uint64
	// Lost is why there is, or last was, no connection, and Last how that came
	// to an end the last time.
	Lost error
	Last Resumption
	// RemoteAddr is the other end of the connection; nil while there is none.
	RemoteAddr net.Addr
}

// Stats says what the session is doing. It may be called at any time, also after
// the session's end, and is too dear to be called for every frame.
func (s *Session) Stats() Stats {
	l, streams := s.link, s.NumStreams()
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Stats{
		Streams:        streams,
		Received:       l.received.Load(),
		Sent:           l.ring.high,
		Queued:         l.ring.unsent(),
		Unacknowledged: l.ring.held(),
		RTT:            s.RTT(),
		Connected:      l.carrier != nil,
		Since:          l.since,
		Resumes:        l.resumes,
		Replayed:       l.replayed,
		Lost:           l.lostBy,
		Last:           l.last,
	}
	if l.carrier != nil {
		st.RemoteAddr = l.carrier.conn.RemoteAddr()
	}
	return st
}
