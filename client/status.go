package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/internal/metrics"
	"adit/mux"
	"adit/tunnel"
)

// Status is what a client is doing and has done. Its JSON form, which
// docs/metrics.md describes, keeps the names of its fields.
type Status struct {
	Link     LinkStatus      `json:"link"`
	Sessions []SessionStatus `json:"sessions"` // the oldest first; the last one takes new streams
	Forwards []ForwardStatus `json:"forwards"`
	Counts   Counts          `json:"counts"`
}

// LinkStatus is whether new connections can be carried.
type LinkStatus struct {
	Up     bool      `json:"up"`
	Server string    `json:"server"` // its URL; "" before the first attempt
	Since  time.Time `json:"since"`  // when it went up or down; before that, when the client was made
	Error  string    `json:"error"`  // why it is down; "" when up
}

// SessionStatus is a session: the present one, or one that only finishes its
// streams.
type SessionStatus struct {
	ID     uint64    `json:"id"` // counts from 1
	Server string    `json:"server"`
	Opened time.Time `json:"opened"`
	metrics.Link
}

// ForwardStatus is a place where the client listens.
type ForwardStatus struct {
	Listen      string            `json:"listen"`
	Target      string            `json:"target"`
	Connections int               `json:"connections"`
	Opened      uint64            `json:"connections_opened"`
	Refused     map[string]uint64 `json:"connections_refused"` // by reason
}

// Counts are of what has happened since the client was made. The keys of the
// maps are names from fixed sets.
type Counts struct {
	SessionsOpened    uint64            `json:"sessions_opened"`
	SessionsEnded     map[string]uint64 `json:"sessions_ended"`
	HandshakeFailures map[string]uint64 `json:"handshake_failures"` // by step, the dial's included
	metrics.Traffic

	Dials map[string]metrics.Distribution `json:"-"` // by result
}

// counters is what a client counts as it happens.
type counters struct {
	ended, handshakes *metrics.Tally     // handshakes: failures, by step
	dials             *metrics.Durations // by result: the steps, and others

	mu     sync.Mutex
	state  LinkStatus
	opened uint64
	live   []*trackedSession // and those that ended since somebody last looked
	past   metrics.Traffic   // of all others
}

func newCounters() *counters {
	steps := []string{"configuration", "dns", "tcp", "proxy", "tls", "upgrade", "authentication", "session"}
	return &counters{
		ended:      metrics.NewTally("client", "lost", "protocol", "revoked", "server", "stopping"),
		handshakes: metrics.NewTally(steps...),
		dials:      metrics.NewDurations(append(steps, "connected", "cancelled")...),
		state:      LinkStatus{Since: time.Now().UTC()},
	}
}

type trackedSession struct {
	mux    *mux.Session
	id     uint64
	server string
	opened time.Time
}

// Status says what the client is doing. It is for after Listen.
func (c *Client) Status() Status {
	n := c.counters
	st := Status{Sessions: []SessionStatus{}, Forwards: []ForwardStatus{}, Counts: Counts{
		HandshakeFailures: n.handshakes.Counts(), Dials: n.dials.Distributions(),
	}}
	n.mu.Lock()
	n.sweep()
	st.Link = n.state
	st.Counts.SessionsOpened, st.Counts.Traffic = n.opened, n.past
	for _, s := range n.live {
		link := metrics.LinkOf(s.mux.Stats())
		st.Counts.Traffic.Add(link)
		st.Sessions = append(st.Sessions, SessionStatus{s.id, s.server, s.opened.UTC(), link})
	}
	n.mu.Unlock()
	st.Counts.SessionsEnded = n.ended.Counts()
	for _, f := range c.cfg.Forwards {
		st.Forwards = append(st.Forwards, f.status())
	}
	return st
}

// Ready is nil while the link is up, and else says why it is not.
func (c *Client) Ready() error {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	switch {
	case c.counters.state.Up:
		return nil
	case c.counters.state.Error == "":
		return errors.New("connecting")
	}
	return errors.New(c.counters.state.Error)
}

// noteState keeps a state for Status on its way to next.
func (c *Client) noteState(next func(State)) func(State) {
	return func(s State) {
		now := LinkStatus{Up: s.Up, Server: s.Server, Since: time.Now().UTC()}
		if s.Err != nil {
			now.Error = s.Err.Error()
		}
		n := c.counters
		n.mu.Lock()
		if before := n.state; before.Up == s.Up && !s.Up {
			now.Since = before.Since // still down
		}
		n.state = now
		n.mu.Unlock()
		next(s)
	}
}

// noteDial counts an attempt to make a session, or to resume one: then session is
// nil.
func (c *Client) noteDial(server string, session *mux.Session, err error, took time.Duration) {
	n := c.counters
	result := dialResult(err)
	n.dials.Add(result, took)
	if err != nil {
		if result != "cancelled" {
			n.handshakes.Add(result)
		}
		return
	}
	if session == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sweep()
	n.opened++
	n.live = append(n.live, &trackedSession{session, n.opened, server, time.Now()})
}

// dialResult names what came of an attempt to make a session.
func dialResult(err error) string {
	var step *tunnel.StepError
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

// sweep forgets the sessions that have ended. n.mu is held.
func (n *counters) sweep() {
	live := n.live[:0]
	for _, s := range n.live {
		select {
		case <-s.mux.Done():
			n.past.Add(metrics.LinkOf(s.mux.Stats()))
			n.ended.Add(endName(s.mux.Err()))
		default:
			live = append(live, s)
		}
	}
	clear(n.live[len(live):])
	n.live = live
}

// endName is why a session ended, as a name of the metric.
func endName(err error) string {
	var closed *mux.ClosedError
	if errors.As(err, &closed) {
		switch closed.Code {
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
	return "client" // by ourselves
}

// forwardCounters is what a forward counts.
type forwardCounters struct {
	now     atomic.Int64
	opened  atomic.Uint64
	refused *metrics.Tally
}

func newForwardCounters() *forwardCounters {
	names := []string{"link-down", "lost"}
	for code := mux.Refused; code <= mux.Cancelled; code++ {
		names = append(names, code.String())
	}
	return &forwardCounters{refused: metrics.NewTally(names...)}
}

// begin counts a connection until end is called.
func (f *forwardCounters) begin() (end func()) {
	f.opened.Add(1)
	f.now.Add(1)
	return func() { f.now.Add(-1) }
}

// fault counts a connection that came to no good end because of the tunnel.
func (f *forwardCounters) fault(err error) {
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

func (f Forward) status() ForwardStatus {
	listen := f.Address
	if f.Listener != nil {
		listen = f.Listener.Addr().String()
	}
	if f.Network == "unix" {
		listen = fmt.Sprintf("unix:%s", f.Address)
	}
	return ForwardStatus{listen, f.Target.String(), int(f.counters.now.Load()), f.counters.opened.Load(), f.counters.refused.Counts()}
}
