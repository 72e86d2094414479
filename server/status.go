package server

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/internal/dialout"
	"adit/internal/metrics"
	"adit/mux"
)

// Status is what a server is doing and has done. Its JSON form, which
// docs/metrics.md describes, keeps the names of its fields.
type Status struct {
	Listeners []Listener `json:"listeners"`
	// Draining says that the server is stopping: nothing new is accepted.
	Draining bool            `json:"draining"`
	Sessions []SessionStatus `json:"sessions"` // the oldest first
	Routes   []RouteStatus   `json:"routes"`   // as they are preferred
	// Unauthenticated are the connections that have not shown credentials,
	// those of visitors of the site among them.
	Unauthenticated int    `json:"unauthenticated_connections"`
	Counts          Counts `json:"counts"`
}

// Listener is where a server listens.
type Listener struct {
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
}

// SessionStatus is one session.
type SessionStatus struct {
	ID     string    `json:"id"`     // as in the log and the audit records
	User   string    `json:"user"`   // "(anonymous)" for those without a name
	Opened time.Time `json:"opened"` // the first time, where it was resumed
	metrics.Link
}

// RouteStatus is one route, since the server started or the route was first
// there.
type RouteStatus struct {
	Route       string            `json:"route"` // host and path; with " (exact)" where it is
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
	// Failed says that it did not answer a moment ago, and is tried last.
	Failed bool `json:"failed"`
}

// Counts are of what has happened since the server started. The keys of the
// maps are names from fixed sets, but for Users.
type Counts struct {
	SessionsOpened    uint64                     `json:"sessions_opened"`
	SessionsEnded     map[string]uint64          `json:"sessions_ended"`
	SessionsRefused   map[string]uint64          `json:"sessions_refused"`
	StreamsOpened     uint64                     `json:"streams_opened"`
	StreamsRefused    map[string]uint64          `json:"streams_refused"`
	HandshakeFailures map[string]uint64          `json:"handshake_failures"`
	Rejected          map[string]uint64          `json:"connections_rejected"`
	Users             map[string]metrics.Traffic `json:"users"` // by name, sessions that live included

	TargetDials, RouteDials map[string]metrics.Distribution `json:"-"` // by result
}

// counters is what a server counts as it happens. All else is asked of the
// sessions and routes when somebody wants to know: nothing is counted for each
// frame.
type counters struct {
	sessions, streams atomic.Uint64 // opened

	sessionsEnded, sessionsRefused, streamsRefused *metrics.Tally
	handshakes                                     *metrics.Tally // failures, by step
	targetDials, routeDials                        *metrics.Durations

	past map[string]metrics.Traffic // of sessions that have ended, by user; under Server.mu
}

func newCounters() counters {
	refusals := []string{
		mux.Refused.String(), mux.Unreachable.String(), mux.Timeout.String(), mux.NotFound.String(),
		mux.Forbidden.String(), mux.Busy.String(), mux.Failed.String(), mux.Cancelled.String(),
	}
	results := append(refusals, mux.Connected.String())
	return counters{
		sessionsEnded:   metrics.NewTally("client", "lost", "protocol", "revoked", "stopping"),
		sessionsRefused: metrics.NewTally("limit", "origin", "stopping"),
		streamsRefused:  metrics.NewTally(refusals...),
		handshakes:      metrics.NewTally("tls", "authentication", "throttled", "upgrade", "session"),
		targetDials:     metrics.NewDurations(results...),
		routeDials:      metrics.NewDurations(results...),
		past:            make(map[string]metrics.Traffic),
	}
}

// Status says what the server is doing.
func (s *Server) Status() Status {
	st := Status{Unauthenticated: s.gate.len(), Counts: Counts{
		SessionsOpened:    s.counters.sessions.Load(),
		SessionsEnded:     s.counters.sessionsEnded.Counts(),
		SessionsRefused:   s.counters.sessionsRefused.Counts(),
		StreamsOpened:     s.counters.streams.Load(),
		StreamsRefused:    s.counters.streamsRefused.Counts(),
		HandshakeFailures: s.counters.handshakes.Counts(),
		Rejected:          s.gate.rejected.Counts(),
		TargetDials:       s.counters.targetDials.Distributions(),
		RouteDials:        s.counters.routeDials.Distributions(),
		Users:             make(map[string]metrics.Traffic),
	}}
	st.Sessions = []SessionStatus{}
	s.mu.Lock()
	st.Draining = s.stopping
	st.Listeners = append([]Listener{}, s.listeners...)
	for user, past := range s.counters.past {
		st.Counts.Users[user] = past
	}
	for x := range s.sessions {
		now := x.status()
		st.Sessions = append(st.Sessions, now)
		traffic := st.Counts.Users[now.User]
		traffic.Add(now.Link)
		st.Counts.Users[now.User] = traffic
	}
	s.mu.Unlock()
	slices.SortFunc(st.Sessions, func(a, b SessionStatus) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	st.Routes = []RouteStatus{}
	for _, r := range s.access.Load().routes {
		st.Routes = append(st.Routes, r.status())
	}
	return st
}

// Ready is nil when the server accepts sessions, and else says why not.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return errors.New(reasonStopping)
	case len(s.listeners) == 0:
		return errors.New("no listener is open")
	}
	return nil
}

func (s *Server) addListener(ln net.Listener, tls bool) (remove func()) {
	l := Listener{ln.Addr().String(), tls}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.listeners, l); i >= 0 {
			s.listeners = slices.Delete(s.listeners, i, i+1)
		}
	}
}

func (x *session) status() SessionStatus {
	link := metrics.LinkOf(x.mux.Stats())
	link.Address = x.currentAddr() // the client's, also where a proxy is between
	return SessionStatus{ID: x.id, User: userName(x.user), Opened: x.opened.UTC(), Link: link}
}

// forgetSession takes a session that has ended off the list.
func (s *Server) forgetSession(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x)
	end := x.status()
	past := s.counters.past[end.User]
	past.Add(end.Link)
	s.counters.past[end.User] = past
	s.counters.sessionsEnded.Add(endName(x.mux.Err(), x.identity.Load().Policy == nil, s.stopping))
}

// endName is why a session ended, as a name of the metric.
func endName(err error, revoked, stopping bool) string {
	var closed *mux.ClosedError
	switch {
	case errors.As(err, &closed) && closed.Code != mux.CloseProtocol:
		return "client" // has said goodbye
	case revoked:
		return "revoked"
	case closed != nil, errors.Is(err, mux.ErrProtocol):
		return "protocol"
	case errors.Is(err, mux.ErrLinkLost):
		return "lost"
	case stopping:
		return "stopping"
	}
	return metrics.Other
}

// Why a server takes no session.
const (
	reasonStopping = "the server is stopping"
	reasonSessions = "this user has too many sessions"
)

// refusalName is why there may not be one more session, as a name of the metric.
func refusalName(reason string) string {
	if reason == reasonStopping {
		return "stopping"
	}
	return "limit"
}

// routeRefusals are the names of the metric for the statuses with which a route
// refuses a client.
var routeRefusals = map[int]string{
	http.StatusForbidden:          "origin",
	http.StatusBadGateway:         "backend",
	http.StatusServiceUnavailable: "limit", // or the server is stopping
	http.StatusGatewayTimeout:     "timeout",
}

// dialResult is what came of dialling a route's backends; gone says that the
// client did not wait for it.
func dialResult(err error, gone bool) string {
	switch {
	case err == nil:
		return mux.Connected.String()
	case gone:
		return mux.Cancelled.String()
	}
	code, _ := dialout.Classify(err)
	return code.String()
}

// countRejected counts those who show credentials that are no good.
func (s *Server) countRejected(err error) {
	switch {
	case errors.Is(err, auth.ErrNoCredentials):
	case errors.Is(err, auth.ErrThrottled):
		s.counters.handshakes.Add("throttled")
	default:
		s.counters.handshakes.Add("authentication")
	}
}

// handshakeLog counts the TLS handshakes that fail, which net/http tells of in no
// other way.
type handshakeLog struct {
	httpLog
	failures *metrics.Tally
}

func (w handshakeLog) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("http: TLS handshake error")) {
		w.failures.Add("tls")
	}
	return w.httpLog.Write(p)
}

// routeCounters is what a route counts. It outlives a SetAccess that keeps the
// route.
type routeCounters struct {
	refused *metrics.Tally

	mu             sync.Mutex
	live           map[*clientEnd]struct{}
	opened         uint64
	received, sent uint64 // by connections that have ended
}

func newRouteCounters() *routeCounters {
	return &routeCounters{
		refused: metrics.NewTally("backend", "limit", "origin", "timeout", "user"),
		live:    make(map[*clientEnd]struct{}),
	}
}

func (r *routeCounters) begin(c *clientEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[c] = struct{}{}
	r.opened++
}

func (r *routeCounters) end(c *clientEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, c)
	r.received += c.receivedBytes.Load()
	r.sent += c.sentBytes.Load()
}

func (r *route) status() RouteStatus {
	st := RouteStatus{
		Route: r.name(), Users: append([]string{}, r.Users...),
		Backends: r.pool.status(), Refused: r.counters.refused.Counts(),
	}
	c := r.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Connections, st.Opened, st.Received, st.Sent = len(c.live), c.opened, c.received, c.sent
	for end := range c.live {
		st.Received += end.receivedBytes.Load()
		st.Sent += end.sentBytes.Load()
	}
	return st
}

// name tells the route from all others.
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
		all = append(all, BackendStatus{b.name, b.conns, now.Before(b.failed)})
	}
	return all
}
