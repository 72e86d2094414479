package server

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"adit/internal/testnet"
)

// However often strangers fail, the log has a few lines of each address, a few
// hundred in all, and the number of the rest. Its form is one that others read.
func TestRejections(t *testing.T) {
	log := testnet.NewLog()
	s := &Server{log: log.Logger, failures: rejections{log: log.Logger, message: authenticationFailed}}
	r := &s.failures
	fail := func(n int, addr string) {
		t.Helper()
		for range n {
			s.logFailure(netip.MustParseAddrPort(addr), "/"+strings.Repeat("p", 1000), errors.New("unknown token"))
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
	fail(25, "[2001:db8::2]:1") // the same customer
	lines(rejectionsPerAddress, `failed" addr=192.0.2.1:`)
	lines(1, `failed" addr=192.0.2.2:`)
	lines(rejectionsPerAddress, `failed" addr=[2001:db8::`)
	r.flush()
	lines(1, `level=WARN msg="authentication failed more often" addr=192.0.2.1:6 times=983`)
	lines(0, `more often" addr=192.0.2.2`)
	lines(1, `more often" addr=[2001:db8::2]:1 times=30`)
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
	lines(rejectionsOfAll-1, `failed" addr=10.`)
	if n := len(r.counts); n > rejectionsOfAll {
		t.Errorf("%d addresses are remembered", n)
	}
	r.flush()
	lines(1, `msg="authentication failed, from more addresses than are logged" times=9401`)
	before := len(log.Lines())
	r.flush()
	if n := len(log.Lines()); n != before {
		t.Errorf("%d lines about nothing", n-before)
	}
}
