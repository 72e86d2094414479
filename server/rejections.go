package server

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the lines about what strangers were refused, so that they cannot
// fill the disk: this many of one address (IPv6: one /64), and of all together,
// in each period. What is over them is counted, and the count logged at the end
// of the period.
const (
	rejectionPeriod      = time.Minute
	rejectionsPerAddress = 20
	rejectionsOfAll      = 600
)

// rejections bounds the lines with one message. The first one begins a period.
type rejections struct {
	log     *slog.Logger
	message string

	mu     sync.Mutex
	timer  *time.Timer // ends the period; nil between periods
	counts map[netip.Prefix]*rejected
	lines  int // in this period
	others int // of addresses that have no count
}

// rejected is what an address has done in this period.
type rejected struct {
	last       netip.AddrPort
	lines      int
	suppressed int
}

// admit says whether one more line about a client may be logged. Otherwise it
// is counted.
func (j *rejections) admit(client netip.AddrPort) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.timer == nil {
		j.counts = make(map[netip.Prefix]*rejected)
		j.timer = time.AfterFunc(rejectionPeriod, j.flush)
	}
	key := addrPrefix(client.Addr())
	c := j.counts[key]
	if c == nil {
		if j.lines >= rejectionsOfAll { // which bounds counts, too
			j.others++
			return false
		}
		c = &rejected{}
		j.counts[key] = c
	}
	c.last = client
	if c.lines >= rejectionsPerAddress || j.lines >= rejectionsOfAll {
		c.suppressed++
		return false
	}
	c.lines++
	j.lines++
	return true
}

// flush ends the period: it logs what has been counted only.
func (j *rejections) flush() {
	j.mu.Lock()
	if j.timer != nil {
		j.timer.Stop()
	}
	counts, others := j.counts, j.others
	j.timer, j.counts, j.lines, j.others = nil, nil, 0, 0
	j.mu.Unlock()
	for _, c := range counts {
		if c.suppressed > 0 {
			j.log.Warn(j.message+" more often", "addr", addrText(c.last), "times", c.suppressed)
		}
	}
	if others > 0 {
		j.log.Warn(j.message+", from more addresses than are logged", "times", others)
	}
}

// What the bounded lines begin with.
const (
	authenticationFailed = "authentication failed"
	routeRefused         = "route refused"
	sessionRefused       = "session refused"
)

// logFailure logs that a caller is not who they say.
func (s *Server) logFailure(client netip.AddrPort, path string, reason error) {
	if !s.failures.admit(client) {
		return
	}
	// The address comes first: whoever reads the line by a pattern, as
	// fail2ban does, need not look beyond, where a stranger has a say.
	s.log.Warn(authenticationFailed, "addr", addrText(client), "path", cut(path), "reason", reason)
}

// logRefused logs that a user, or somebody without credentials where that is
// allowed, gets no session. Lines about users are not bounded: they are known.
func (s *Server) logRefused(client netip.AddrPort, user string, reason any) {
	if user != "" || s.sessionRefusals.admit(client) {
		s.log.Warn(sessionRefused, "user", userName(user), "addr", addrText(client), "reason", reason)
	}
}

// cut shortens what a stranger says to what is logged of it.
func cut(s string) string {
	const limit = 128
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
