package server

import (
	"errors"
	"net/http"
	"sync/atomic"

	"adit/auth"
	"adit/internal/dialout"
	"adit/internal/metrics"
	"adit/mux"
)

// counters count events as they happen. All other metrics are read from the
// sessions and routes on request: nothing is counted per frame.
type counters struct {
	sessions, streams atomic.Uint64 // opened

	sessionsEnded, sessionsRefused *metrics.Tally
	streamsRefused                 *metrics.Tallies // by user
	handshakes                     *metrics.Tally   // failures, by step
	targetDials, routeDials        *metrics.Durations

	targets *metrics.Tallies // streams to named targets: refusals, and connected
	tickets *metrics.Tally
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
		streamsRefused:  metrics.NewTallies(refusals...),
		handshakes:      metrics.NewTally("tls", "authentication", "throttled", "upgrade", "session"),
		targetDials:     metrics.NewDurations(results...),
		routeDials:      metrics.NewDurations(results...),
		targets:         metrics.NewTallies(results...),
		tickets:         metrics.NewTally("issued", "refused", "accepted", "expired", "rejected"),
	}
}

// addRejected counts a client that showed credentials and was rejected.
func (c *counters) addRejected(err error) {
	switch {
	case errors.Is(err, auth.ErrNoCredentials):
	case errors.Is(err, auth.ErrThrottled):
		c.handshakes.Add("throttled")
	default:
		c.handshakes.Add("authentication")
	}
}

// addRedeemed counts a ticket that was shown; err says why it was not accepted.
func (c *counters) addRedeemed(err error) {
	switch {
	case err == nil:
		c.tickets.Add("accepted")
	case errors.Is(err, errTicketExpired):
		c.tickets.Add("expired")
	default:
		c.tickets.Add("rejected")
	}
}

// addSessionRefused counts a session that was refused because the server is
// stopping or because of a limit.
func (c *counters) addSessionRefused(reason string) {
	if reason == reasonStopping {
		c.sessionsRefused.Add("stopping")
		return
	}
	c.sessionsRefused.Add("limit")
}

// reasonStopping is why a server that stops takes no session.
const reasonStopping = "the server is stopping"

// endName returns the metric's name for why a session ended.
func endName(err error, revoked, stopping bool) string {
	var closed *mux.ClosedError
	switch {
	case errors.As(err, &closed) && closed.Code != mux.CloseProtocol:
		return "client" // closed by it
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

// routeRefusals are the metric's names for the statuses with which a route
// refuses a client.
var routeRefusals = map[int]string{
	http.StatusForbidden:          "origin",
	http.StatusBadGateway:         "backend",
	http.StatusServiceUnavailable: "limit", // or the server is stopping
	http.StatusGatewayTimeout:     "timeout",
}

// dialResult returns the metric's name for the result of connecting to a route's
// backends; gone says that the client did not wait for it.
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
