package link

import (
	"net"
	"time"
)

// Stats is the state of a link. Counts are of its whole life, across
// connections.
type Stats struct {
	// Received and Sent are bytes of the link's stream, without those that were
	// sent again and without the framing below the link.
	Received, Sent uint64
	// Acknowledged is how many sent bytes the peer is known to have received.
	Acknowledged uint64
	// Queued is how many bytes wait to be written to the connection, and
	// Unacknowledged how many are kept because the peer has not acknowledged
	// them; the former are among the latter.
	Queued, Unacknowledged int
	// SendBuffer is the memory that the send buffer occupies, in bytes. While the
	// link is detached it does not grow.
	SendBuffer int
	// RTT is the smoothed round-trip time, 0 while it is unknown.
	RTT time.Duration
	// Connected reports whether the link has a connection, and Since when it got
	// or lost it.
	Connected bool
	Since     time.Time
	// Resumes is how often the link continued on another connection, and Replayed
	// how many bytes were sent again for that.
	Resumes  int
	Replayed uint64
	// Lost is why the connection was lost the last time, and Last how the link
	// was resumed the last time.
	Lost error
	Last Resumption
	// RemoteAddr is the other end of the connection; nil while there is none.
	RemoteAddr net.Addr
}

// Stats returns the state of the link. It may be called at any time, also after
// the end; it takes the link's lock, so it is not for every frame.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Received:       l.received.Load(),
		Sent:           l.send.high,
		Acknowledged:   l.send.acked,
		Queued:         l.send.unsent(),
		Unacknowledged: l.send.held(),
		SendBuffer:     l.send.memory,
		RTT:            l.RTT(),
		Connected:      l.conn != nil,
		Since:          l.since,
		Resumes:        l.resumes,
		Replayed:       l.replayed,
		Lost:           l.lostBy,
		Last:           l.last,
	}
	if l.conn != nil {
		s.RemoteAddr = l.conn.conn.RemoteAddr()
	}
	return s
}
