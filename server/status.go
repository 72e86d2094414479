package server

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"adit/internal/metrics"
	"adit/mux"
)

// Status is the present state and the counts of a server. The names of its fields
// in JSON, which docs/metrics.md describes, do not change.
type Status struct {
	Listeners []Listener `json:"listeners"`
	// Draining says that the server is stopping: nothing new is accepted.
	Draining bool            `json:"draining"`
	Sessions []SessionStatus `json:"sessions"` // oldest first
	Routes   []RouteStatus   `json:"routes"`   // in order of preference
	Targets  []TargetStatus  `json:"targets"`  // by name
	// Unauthenticated is the number of connections that have not authenticated,
	// including those of visitors of the site.
	Unauthenticated int    `json:"unauthenticated_connections"`
	Counts          Counts `json:"counts"`
}

// SessionStatus is one session.
type SessionStatus struct {
	ID     string    `json:"id"`     // as in the log and the audit records
	User   string    `json:"user"`   // "(anonymous)" for those without a name
	Opened time.Time `json:"opened"` // unchanged by resumption
	metrics.Link
	OpenStreams []metrics.Stream `json:"open_streams"` // only of StatusWithStreams
}

// RouteStatus is one route. Its counts begin when the server starts or the route
// is added.
type RouteStatus struct {
	Route       string            `json:"route"` // host and path, and " (exact)" for an exact one
	Users       []string          `json:"users"` // none: everybody
	Backends    []BackendStatus   `json:"backends"`
	Connections int               `json:"connections"`
	Opened      uint64            `json:"connections_opened"`
	Refused     map[string]uint64 `json:"connections_refused"` // by reason
	Received    uint64            `json:"received_bytes"`      // payload, from clients
	Sent        uint64            `json:"sent_bytes"`          // payload, to clients
}

// BackendStatus is one backend of a route.
type BackendStatus struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
	// Failed says that it failed in the last second, and is tried last.
	Failed bool `json:"failed"`
	// LastFailure is the error of the last failure, and LastFailed its time. "" and
	// nil: it has not failed since the start.
	LastFailure string     `json:"last_failure"`
	LastFailed  *time.Time `json:"last_failed"`
}

// TargetStatus is one named target. Its counts begin when the server starts.
type TargetStatus struct {
	Name    string            `json:"name"`
	Opened  uint64            `json:"streams_opened"`
	Refused map[string]uint64 `json:"streams_refused"` // by reason
}

// Counts are counts of events since the server started. The keys of the maps are
// names from fixed sets, except those of Users.
type Counts struct {
	SessionsOpened    uint64                     `json:"sessions_opened"`
	SessionsEnded     map[string]uint64          `json:"sessions_ended"`
	SessionsRefused   map[string]uint64          `json:"sessions_refused"`
	StreamsOpened     uint64                     `json:"streams_opened"`
	StreamsRefused    map[string]uint64          `json:"streams_refused"`
	Tickets           map[string]uint64          `json:"tickets"` // by what happened to them
	HandshakeFailures map[string]uint64          `json:"handshake_failures"`
	Rejected          map[string]uint64          `json:"connections_rejected"`
	Users             map[string]metrics.Traffic `json:"users"` // by name, including live sessions

	StreamsRefusedByUser map[string]map[string]uint64 `json:"streams_refused_by_user"` // by user, then by reason

	TargetDials, RouteDials map[string]metrics.Distribution `json:"-"` // by result
}

// Status returns the state of the server.
func (s *Server) Status() Status { return s.status(false) }

// StatusWithStreams is Status with the open streams of each session, of which there
// may be many: at most metrics.MaxListed of each.
func (s *Server) StatusWithStreams() Status { return s.status(true) }

func (s *Server) status(streams bool) Status {
	st := Status{
		Sessions: []SessionStatus{}, Routes: []RouteStatus{}, Targets: []TargetStatus{},
		Unauthenticated: s.limiter.len(), Counts: s.counts(),
	}
	s.mu.Lock()
	st.Draining = s.stopping
	st.Listeners = append([]Listener{}, s.listeners...)
	s.mu.Unlock()
	live, traffic := s.tunnel.sessions.traffic()
	for _, x := range live {
		now := x.status()
		if streams {
			now.OpenStreams = x.streams.List()
		}
		st.Sessions = append(st.Sessions, now)
		sum := traffic[now.User]
		sum.Add(now.Link)
		traffic[now.User] = sum
		s.counters.streamsRefused.Of(now.User) // at 0, so that the first refusal is an increase
	}
	st.Counts.StreamsRefusedByUser, st.Counts.StreamsRefused = s.counters.streamsRefused.Counts()
	st.Counts.Users = traffic
	slices.SortFunc(st.Sessions, func(a, b SessionStatus) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	a := s.access.Load()
	for _, r := range a.routes {
		st.Routes = append(st.Routes, r.status())
	}
	for _, name := range slices.Sorted(maps.Keys(a.targets)) {
		st.Targets = append(st.Targets, targetStatus(name, s.counters.targets.Of(name).Counts()))
	}
	return st
}

// counts returns all counts except Users and the refused streams.
func (s *Server) counts() Counts {
	return Counts{
		SessionsOpened:    s.counters.sessions.Load(),
		SessionsEnded:     s.counters.sessionsEnded.Counts(),
		SessionsRefused:   s.counters.sessionsRefused.Counts(),
		StreamsOpened:     s.counters.streams.Load(),
		Tickets:           s.counters.tickets.Counts(),
		HandshakeFailures: s.counters.handshakes.Counts(),
		Rejected:          s.limiter.rejected.Counts(),
		TargetDials:       s.counters.targetDials.Distributions(),
		RouteDials:        s.counters.routeDials.Distributions(),
	}
}

// Ready returns nil if the server accepts sessions, and otherwise says why not.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping || s.withdrawn:
		return errors.New(reasonStopping)
	case len(s.listeners) == 0:
		return errors.New("no listener is open")
	}
	return nil
}

func (x *session) status() SessionStatus {
	return SessionStatus{ID: x.id, User: userName(x.user), Opened: x.opened.UTC(), Link: x.link()}
}

func targetStatus(name string, counts map[string]uint64) TargetStatus {
	connected := mux.Connected.String()
	t := TargetStatus{Name: name, Opened: counts[connected], Refused: counts}
	delete(counts, connected)
	return t
}

func (r *route) status() RouteStatus {
	n := r.counters.totals()
	return RouteStatus{
		Route: r.name(), Users: append([]string{}, r.Users...),
		Backends: r.pool.status(), Refused: r.counters.refused.Counts(),
		Connections: n.live, Opened: n.opened, Received: n.received, Sent: n.sent,
	}
}

// name returns a name that no other route has.
func (r *route) name() string {
	if r.Exact {
		return r.id.String() + " (exact)"
	}
	return r.id.String()
}

func (p *pool) status() []BackendStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var all []BackendStatus
	for _, b := range p.backends {
		st := BackendStatus{Name: b.name, Connections: b.conns, Failed: now.Before(b.failedUntil)}
		if b.failure != nil {
			at := b.failedUntil.Add(-backendPause).UTC()
			st.LastFailure, st.LastFailed = b.failure.Error(), &at
		}
		all = append(all, st)
	}
	return all
}
