package server

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"

	"adit/internal/descriptors"
	"adit/internal/hint"
	"adit/mux"
)

// core is what the parts of a server have in common: the configuration, the
// present Access, the counters and the log.
type core struct {
	cfg      Config
	log      *slog.Logger
	access   atomic.Pointer[access]
	counters counters
	tickets  ticketKey
	credit   *creditLimits
	shortage descriptors.Shortage

	front           frontLog
	failures        boundedLog // of authentication
	refusals        boundedLog // of route connections
	sessionRefusals boundedLog
	certificates    boundedLog // of client certificates that were refused
	subprotocols    boundedLog // of clients that left because none was answered
}

// newCore takes a Config that has its defaults.
func newCore(cfg Config) *core {
	return &core{
		credit: newCreditLimits(cfg), cfg: cfg, log: cfg.Logger, counters: newCounters(), tickets: newTicketKey(), shortage: descriptors.Shortage{Log: cfg.Logger},
		failures:        boundedLog{log: cfg.Logger, message: authenticationFailed},
		refusals:        boundedLog{log: cfg.Logger, message: routeRefused},
		sessionRefusals: boundedLog{log: cfg.Logger, message: sessionRefused},
		certificates:    boundedLog{log: cfg.Logger, message: certificateRefused},
		subprotocols:    boundedLog{log: cfg.Logger, message: subprotocolUnanswered},
	}
}

// clientAddr is where a request comes from, by the proxies that are trusted now.
func (c *core) clientAddr(r *http.Request) netip.AddrPort {
	return c.access.Load().trustedProxies.clientAddr(r)
}

// record begins the audit record of a stream or a route connection.
func (c *core) record(kind, id, user, client, target string) *recording {
	return newRecording(c.cfg.Audit, kind, id, user, client, target)
}

// muxConfig returns the configuration of a new session of a user.
func (c *core) muxConfig(user string) *mux.Config {
	m := c.cfg.Mux
	m.MaxStreams = c.access.Load().maxStreams
	m.CreditLimit = c.credit.of(user)
	return &m
}

// logFailure logs a failed authentication.
func (c *core) logFailure(client netip.AddrPort, path string, reason error) {
	if !c.failures.allow(client) {
		return
	}
	// The address comes first: a program that reads the line by a pattern, as
	// fail2ban does, can stop before the attributes that the client controls.
	c.log.Warn(authenticationFailed, "addr", addrText(client), "path", truncate(path), "reason", reason)
}

// logSessionRefused logs that a client gets no session. The number of lines is
// bounded only for anonymous clients.
func (c *core) logSessionRefused(client netip.AddrPort, user string, reason any) {
	if user != "" || c.sessionRefusals.allow(client) {
		c.log.Warn(sessionRefused, "user", userName(user), "addr", addrText(client), "reason", reason)
	}
}

// cure returns the hint of an error, if it has one, as an attribute of a log line.
func cure(err error) []any {
	if h := hint.Of(err); h != "" {
		return []any{"hint", h}
	}
	return nil
}

// flushLogs logs what the bounded logs have suppressed.
func (c *core) flushLogs() {
	c.failures.flush()
	c.refusals.flush()
	c.sessionRefusals.flush()
	c.certificates.flush()
	c.subprotocols.flush()
}

// Messages of the bounded logs.
const (
	authenticationFailed  = "authentication failed"
	routeRefused          = "route refused"
	sessionRefused        = "session refused"
	certificateRefused    = "client certificate refused"
	subprotocolUnanswered = "route subprotocol unanswered"
)
