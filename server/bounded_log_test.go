package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"adit/internal/testnet"
)

// However often clients fail to authenticate, the log has a few lines of each
// address, a few hundred in all, and the number of the rest. Other programs read
// the form of the lines.
func TestBoundedLog(t *testing.T) {
	log := testnet.NewLog()
	c := newCore(Config{Logger: log.Logger})
	r := &c.failures
	fail := func(n int, addr string) {
		t.Helper()
		for range n {
			c.logFailure(netip.MustParseAddrPort(addr), "/"+strings.Repeat("p", 1000), errors.New("unknown token"))
		}
	}
	lines := func(n int, parts ...string) {
		t.Helper()
		if got := log.Lines(parts...); len(got) != n {
			t.Errorf("%d lines with %q, want %d", len(got), parts, n)
		}
	}
	fail(3, "192.0.2.1:5")
	lines(3, `level=WARN msg="authentication failed" addr=192.0.2.1:5 path=/p`, `… reason="unknown token"`)
	fail(1000, "192.0.2.1:6")
	fail(1, "192.0.2.2:6")
	fail(25, "[2001:db8::1]:1")
	fail(25, "[2001:db8::2]:1") // the same /64
	lines(boundedLogPerAddress, `failed" addr=192.0.2.1:`)
	lines(1, `failed" addr=192.0.2.2:`)
	lines(boundedLogPerAddress, `failed" addr=[2001:db8::`)
	r.flush()
	lines(1, `level=WARN msg="authentication failed repeatedly" addr=192.0.2.1:6 times=983`)
	lines(0, `repeatedly" addr=192.0.2.2`)
	lines(1, `repeatedly" addr=[2001:db8::2]:1 times=30`)
	for _, line := range log.Lines("path=") {
		if len(line) > 400 {
			t.Errorf("%d bytes: %s", len(line), line)
		}
	}

	fail(1, "192.0.2.1:7") // a new period
	lines(1, `failed" addr=192.0.2.1:7 `)
	for a := range 10_000 {
		fail(1, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(a >> 8), byte(a)}), 1).String())
	}
	lines(boundedLogOfAll-1, `failed" addr=10.`)
	if n := len(r.addresses); n > boundedLogOfAll {
		t.Errorf("%d addresses are remembered", n)
	}
	r.flush()
	lines(1, `msg="authentication failed from further addresses" times=9401`)
	before := len(log.Lines())
	r.flush()
	if n := len(log.Lines()); n != before {
		t.Errorf("%d lines about nothing", n-before)
	}
}

// A client that needs no credentials can cause any number of refusals.
func TestRefusalsOfAnonymousClientsAreBounded(t *testing.T) {
	const often = boundedLogPerAddress + 5
	ofRoutes := func(s *Server) *boundedLog { return &s.refusals }
	ofSessions := func(s *Server) *boundedLog { return &s.sessionRefusals }
	a := Access{
		Users: users(t, user("alice", "*:*")), Anonymous: []string{"*:*"},
		Routes: []Route{{Path: "/alice", Backends: []string{"127.0.0.1:1"}, Users: []string{"alice"}}},
	}
	for name, c := range map[string]struct {
		of     func(*Server) *boundedLog
		refuse func(g *gateway)
	}{
		"route": {ofRoutes, func(g *gateway) { g.ask(t, upgrade("/alice")) }},
		"page":  {ofSessions, func(g *gateway) { g.ask(t, upgrade("/tunnel", "Origin: https://evil.test")) }},
		"limit": {ofSessions, func(g *gateway) {
			if m, err := g.trySession(t, ""); err == nil {
				t.Error("a session more than there may be")
				m.Close()
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, Config{MaxSessionsPerUser: 1}, a)
			g.session(t, "")
			for range often {
				c.refuse(g)
			}
			all := c.of(g.Server)
			eventually(t, "all are counted", func() bool {
				all.mu.Lock()
				defer all.mu.Unlock()
				n := 0
				for _, one := range all.addresses {
					n += one.lines + one.suppressed
				}
				return n == often
			})
			all.flush()
			if n := len(g.log.Lines(`msg="` + all.message + `"`)); n != boundedLogPerAddress {
				t.Errorf("%d lines", n)
			}
			if n := len(g.log.Lines(`msg="`+all.message+` repeatedly"`, "times=5")); n != 1 {
				t.Errorf("%d lines about the rest", n)
			}
		})
	}
}

// A line is short, however long the header that the client sends.
func TestRefusedOriginIsTruncated(t *testing.T) {
	long := "https://" + strings.Repeat("\u00ad", 4000)
	for _, c := range []struct {
		origins         []string
		origin, reqHost string
	}{
		{nil, long, "gw.test"},
		{nil, "https://" + strings.Repeat("a", 250), strings.Repeat("\u00ad", 4000)},
		{nil, "https://a:" + strings.Repeat("1", 9999), "gw.test"},
		{[]string{"https://a.test"}, strings.Repeat("a", 9999) + "://b", "gw.test"},
		{[]string{"https://a.test"}, strings.Repeat("x", 9999), "gw.test"},
	} {
		r := table(t, Route{Path: "/a", Origins: c.origins})[0]
		err := r.origins.check(&http.Request{Host: c.reqHost, Header: http.Header{"Origin": {c.origin}}}, caller{})
		if err == nil || len(err.Error()) > 1200 {
			t.Errorf("%.20q: %d bytes: %.200v", c.origin, len(fmt.Sprint(err)), err)
		}
	}
}
