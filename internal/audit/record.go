// Package audit keeps records of who reached what: one for each stream of a
// tunnel and each connection of a route. Whoever makes the records is never
// held up by where they go.
package audit

import (
	"log/slog"
	"strings"
	"time"
)

// Record says what became of a stream or of a connection of a route. It is
// made at its end, or when it was refused. The names in JSON, in which the
// journal's fields are derived from them, too, are the ones that
// docs/audit.md promises; only new ones may be added.
type Record struct {
	Time    time.Time `json:"time"`    // of the end
	Kind    string    `json:"kind"`    // Stream or Route
	Session string    `json:"session"` // of the tunnel, or of this one connection of a route
	User    string    `json:"user"`    // "" is anonymous
	Client  string    `json:"client"`  // where the client comes from, IP:PORT, IP or "(local)"
	Target  string    `json:"target"`  // as asked for; of a route its host and path
	Address string    `json:"address"` // as dialled; "" when nothing was
	Result  string    `json:"result"`  // Ended, Reset, or why it was refused
	Reason  string    `json:"reason"`  // in words; may be ""
	// Payload bytes that were relayed.
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

// Results of what was not refused.
const (
	Ended = "ended" // both sides have ended their data
	Reset = "reset" // one of them was cut off
)

// Attrs are the fields by the names that they have in JSON, but for the time.
func (r *Record) Attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("kind", r.Kind), slog.String("session", r.Session), slog.String("user", r.User),
		slog.String("client", r.Client), slog.String("target", r.Target), slog.String("address", r.Address),
		slog.String("result", r.Result), slog.String("reason", r.Reason),
		slog.Int64("bytes_to_target", r.ToTarget), slog.Int64("bytes_to_client", r.ToClient), slog.Float64("seconds", r.Seconds),
	}
}

// maxText is how many bytes of a text that a client has a say in are kept. A
// target is at most 1 KiB anyway.
const maxText = 1 << 10

func (r *Record) trim() {
	r.Time = r.Time.UTC().Truncate(time.Millisecond)
	for _, s := range []*string{&r.Target, &r.Address, &r.Reason} {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
}
