package client

import (
	"time"

	"adit/internal/metrics"
)

// Status describes a client's present state and what it has counted. Its JSON
// form, which docs/metrics.md describes, has stable field names.
type Status struct {
	Link     LinkStatus      `json:"link"`
	Sessions []SessionStatus `json:"sessions"` // oldest first; only the last takes new streams
	Forwards []ForwardStatus `json:"forwards"`
	Counts   Counts          `json:"counts"`
}

// LinkStatus tells whether new streams can be opened.
type LinkStatus struct {
	Up     bool      `json:"up"`
	Server string    `json:"server"` // URL; "" before the first attempt
	Since  time.Time `json:"since"`  // the last change of Up, or when the client was made
	Error  string    `json:"error"`  // why Up is false; "" if it is true
}

// SessionStatus describes a session that has not ended.
type SessionStatus struct {
	ID     uint64    `json:"id"` // counts from 1
	Server string    `json:"server"`
	Opened time.Time `json:"opened"`
	metrics.Link
	OpenStreams []metrics.Stream `json:"open_streams"` // at most metrics.MaxListed
}

// ForwardStatus describes a forward.
type ForwardStatus struct {
	Listen      string            `json:"listen"`
	Target      string            `json:"target"`
	Connections int               `json:"connections"`
	Opened      uint64            `json:"connections_opened"`
	Refused     map[string]uint64 `json:"connections_refused"` // by reason
}

// Counts are totals since the client was made. The keys of each map are a fixed
// set of names.
type Counts struct {
	SessionsOpened    uint64            `json:"sessions_opened"`
	SessionsEnded     map[string]uint64 `json:"sessions_ended"`     // by reason
	HandshakeFailures map[string]uint64 `json:"handshake_failures"` // by step, those of the dial included
	MigrationRequests map[string]uint64 `json:"migration_requests"` // of servers, "accepted" or "deferred"
	metrics.Traffic

	Dials map[string]metrics.Distribution `json:"-"` // by result: "connected", "cancelled" or the step that failed
}
