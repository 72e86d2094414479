package metrics

import (
	"time"

	"adit/mux"
)

// Link is the state of one session's link, in the format of /status.
type Link struct {
	// Connected is whether the link has a connection now. Without one the
	// session can be resumed, or is about to end.
	Connected bool `json:"connected"`
	// Since is when the current connection was made, or the last one lost.
	Since   time.Time `json:"since"`
	Address string    `json:"address"` // the connection's remote address
	Streams int       `json:"streams"` // open streams

	// Bytes of the link: the data of its streams and their framing.
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	// Queued bytes are not yet written to a connection. Unacknowledged bytes
	// include them and are kept until the other end acknowledges them.
	Queued         int `json:"queued_bytes"`
	Unacknowledged int `json:"unacknowledged_bytes"`

	RTT      float64 `json:"rtt_seconds"` // smoothed; 0 while unknown
	Resumes  int     `json:"resumes"`
	Replayed uint64  `json:"replayed_bytes"` // retransmitted after resumes
}

// LinkOf returns a session's statistics as a Link.
func LinkOf(s mux.Stats) Link {
	l := Link{
		Connected: s.Connected, Since: s.Since.UTC(), Streams: s.Streams,
		Received: s.Received, Sent: s.Sent, Queued: s.Queued, Unacknowledged: s.Unacknowledged,
		RTT: s.RTT.Seconds(), Resumes: s.Resumes, Replayed: s.Replayed,
	}
	if s.RemoteAddr != nil {
		l.Address = s.RemoteAddr.String()
	}
	return l
}

// Traffic is the sum over sessions, including ended ones.
type Traffic struct {
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	Resumes  uint64 `json:"resumes"`
	Replayed uint64 `json:"replayed_bytes"`
}

// Add adds a link's traffic.
func (t *Traffic) Add(l Link) {
	t.Received += l.Received
	t.Sent += l.Sent
	t.Resumes += uint64(l.Resumes)
	t.Replayed += l.Replayed
}
