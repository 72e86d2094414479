package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/internal/metrics"
	"adit/mux"
	"adit/tunnel/dial"
)

// counters counts a client's sessions and attempts to connect. Its methods may
// be called by any goroutine.
type counters struct {
	ended    *metrics.Tally     // sessions, by reason
	failures *metrics.Tally     // failed attempts, by step
	dials    *metrics.Durations // attempts, by result: "connected", "cancelled" or the step that failed
	// migrations counts the server's requests to migrate.
	migrations *metrics.Tally

	// Guarded by mu.
	mu       sync.Mutex
	state    LinkStatus
	opened   uint64
	sessions []*countedSession // those that have ended stay until the next removeEnded
	past     metrics.Traffic   // of all other sessions
}

// countedSession is a session that counters watches.
type countedSession struct {
	mux    *mux.Session
	id     uint64
	server string
	opened time.Time

	streams metrics.Streams // of forwards
}

func newCounters() *counters {
	steps := []string{"configuration", "dns", "tcp", "proxy", "tls", "upgrade", "authentication", "session"}
	return &counters{
		ended:      metrics.NewTally("client", "lost", "protocol", "revoked", "server", "stopping"),
		failures:   metrics.NewTally(steps...),
		dials:      metrics.NewDurations(append(steps, "connected", "cancelled")...),
		migrations: metrics.NewTally("accepted", "deferred"),
		state:      LinkStatus{Since: time.Now().UTC()},
	}
}

// stateChanged records the client's state.
func (n *counters) stateChanged(s State) {
	next := LinkStatus{Up: s.Up, Server: s.Server, Since: time.Now().UTC()}
	if s.Err != nil {
		next.Error = s.Err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.state.Up && !s.Up {
		next.Since = n.state.Since
	}
	n.state = next
}

// dialed counts an attempt to make or resume a session. session is the new
// session, or nil if there is none.
func (n *counters) dialed(server string, session *mux.Session, err error, took time.Duration) {
	result := dialResult(err)
	n.dials.Add(result, took)
	if err != nil {
		if result != "cancelled" {
			n.failures.Add(result)
		}
		return
	}
	if session == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removeEnded()
	n.opened++
	n.sessions = append(n.sessions, &countedSession{mux: session, id: n.opened, server: server, opened: time.Now()})
}

// streamsOf returns the open streams of a session. Those of one that has ended are
// not shown.
func (n *counters) streamsOf(session *mux.Session) *metrics.Streams {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		if s.mux == session {
			return &s.streams
		}
	}
	return &metrics.Streams{}
}

// removeEnded adds the traffic of the sessions that have ended to past. The
// caller holds n.mu.
func (n *counters) removeEnded() {
	open := n.sessions[:0]
	for _, s := range n.sessions {
		select {
		case <-s.mux.Done():
			n.past.Add(metrics.LinkOf(s.mux.Stats()))
			n.ended.Add(endReason(s.mux.Err()))
		default:
			open = append(open, s)
		}
	}
	clear(n.sessions[len(open):])
	n.sessions = open
}

// link returns the state recorded last.
func (n *counters) link() LinkStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// status returns everything but the forwards.
func (n *counters) status() Status {
	st := Status{Sessions: []SessionStatus{}, Forwards: []ForwardStatus{}, Counts: Counts{
		HandshakeFailures: n.failures.Counts(), MigrationRequests: n.migrations.Counts(), Dials: n.dials.Distributions(),
	}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removeEnded()
	st.Link = n.state
	st.Counts.SessionsOpened, st.Counts.Traffic = n.opened, n.past
	for _, s := range n.sessions {
		link := metrics.LinkOf(s.mux.Stats())
		st.Counts.Traffic.Add(link)
		st.Sessions = append(st.Sessions, SessionStatus{s.id, s.server, s.opened.UTC(), link, s.streams.List()})
	}
	st.Counts.SessionsEnded = n.ended.Counts()
	return st
}

// dialResult names the result of an attempt for the metrics.
func dialResult(err error) string {
	var step *dial.Error
	switch {
	case err == nil:
		return "connected"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &step):
		return strings.ToLower(string(step.Step))
	}
	return "session"
}

// endReason names the reason why a session ended for the metrics.
func endReason(err error) string {
	var byPeer *mux.ClosedError
	if errors.As(err, &byPeer) {
		switch byPeer.Code {
		case mux.CloseRevoked:
			return "revoked"
		case mux.CloseAway:
			return "stopping"
		case mux.CloseProtocol:
			return "protocol"
		}
		return "server"
	}
	switch {
	case errors.Is(err, mux.ErrProtocol):
		return "protocol"
	case errors.Is(err, mux.ErrLinkLost):
		return "lost"
	}
	return "client"
}

// forwardCounters counts the connections of a forward.
type forwardCounters struct {
	active  atomic.Int64
	opened  atomic.Uint64
	refused *metrics.Tally // by reason
}

func newForwardCounters() *forwardCounters {
	names := []string{"link-down", "lost"}
	for code := mux.Refused; code <= mux.Cancelled; code++ {
		names = append(names, code.String())
	}
	return &forwardCounters{refused: metrics.NewTally(names...)}
}

// begin counts a connection that stays active until end is called.
func (f *forwardCounters) begin() (end func()) {
	f.opened.Add(1)
	f.active.Add(1)
	return func() { f.active.Add(-1) }
}

// failed counts the failure of a connection if the tunnel caused it.
func (f *forwardCounters) failed(err error) {
	var refused *mux.RefusedError
	switch {
	case errors.As(err, &refused):
		f.refused.Add(refused.Code.String())
	case errors.Is(err, ErrLinkDown):
		f.refused.Add("link-down")
	case errors.Is(err, mux.ErrSessionLost):
		f.refused.Add("lost")
	}
}
