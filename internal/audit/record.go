// Package audit writes a record of each tunnel stream and each route
// connection: which user reached which target, and with what result. Adding a
// record never blocks; a record that cannot be written in time is dropped and
// counted.
package audit

import (
	"log/slog"
	"strings"
	"time"
)

// Record describes one stream or one route connection. It is made when the
// stream or connection ends or is refused. docs/audit.md documents the JSON
// names, from which the journal's fields are derived; names may be added but
// not changed.
type Record struct {
	Time    time.Time `json:"time"`    // of the end
	Kind    string    `json:"kind"`    // Stream or Route
	Session string    `json:"session"` // the tunnel session's ID, or one of the route connection's own
	User    string    `json:"user"`    // "" if anonymous
	Client  string    `json:"client"`  // the client's IP:PORT, IP or "(local)"
	Target  string    `json:"target"`  // as requested; for a route its host and path
	Address string    `json:"address"` // as dialed; "" if nothing was dialed
	Result  string    `json:"result"`  // Ended, Reset, or why it was refused
	Reason  string    `json:"reason"`  // explanation for people; may be ""
	// Payload bytes relayed.
	ToTarget int64 `json:"bytes_to_target"`
	ToClient int64 `json:"bytes_to_client"`
	// Seconds from the request to the end.
	Seconds float64 `json:"seconds"`
}

// Kinds of records.
const (
	Stream = "stream"
	Route  = "route"
)

// Results of streams and connections that were not refused.
const (
	Ended = "ended" // both sides finished sending
	Reset = "reset" // one side was cut off
)

// Attrs returns the fields except Time as attributes with their JSON names.
func (r *Record) Attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("kind", r.Kind), slog.String("session", r.Session), slog.String("user", r.User),
		slog.String("client", r.Client), slog.String("target", r.Target), slog.String("address", r.Address),
		slog.String("result", r.Result), slog.String("reason", r.Reason),
		slog.Int64("bytes_to_target", r.ToTarget), slog.Int64("bytes_to_client", r.ToClient), slog.Float64("seconds", r.Seconds),
	}
}

// maxText bounds, in bytes, each text that a client can influence. A target is
// at most 1 KiB anyway.
const maxText = 1 << 10

// trim bounds the texts, makes them valid UTF-8, and rounds the time to ms.
func (r *Record) trim() {
	r.Time = r.Time.UTC().Truncate(time.Millisecond)
	for _, s := range []*string{&r.Target, &r.Address, &r.Reason} {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
}
