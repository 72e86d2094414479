package metrics

import (
	"time"

	"adit/mux"
)

// Link is one session's link, in the form of /status.
type Link struct {
	// Connected says whether there is a connection at the moment. Without one
	// the session waits to be resumed, or is about to end.
	Connected bool `json:"connected"`
	// Since is when the present connection was made, or lost.
	Since   time.Time `json:"since"`
	Address string    `json:"address"` // of the other end, as the connection has it
	Streams int       `json:"streams"` // open ones

	// Bytes of the link's stream: the data of its streams and their framing.
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	// Queued bytes wait to be written; unacknowledged ones, which include them,
	// are kept until the other end has them.
	Queued         int `json:"queued_bytes"`
	Unacknowledged int `json:"unacknowledged_bytes"`

	RTT      float64 `json:"rtt_seconds"` // smoothed; 0 while unknown
	Resumes  int     `json:"resumes"`
	Replayed uint64  `json:"replayed_bytes"` // sent again after resumes
}

// LinkOf makes a Link of a session's statistics.
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

// Traffic is what sessions that may have ended have done together.
type Traffic struct {
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	Resumes  uint64 `json:"resumes"`
	Replayed uint64 `json:"replayed_bytes"`
}

// Add counts a link in.
func (t *Traffic) Add(l Link) {
	t.Received += l.Received
	t.Sent += l.Sent
	t.Resumes += uint64(l.Resumes)
	t.Replayed += l.Replayed
}
