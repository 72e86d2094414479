package server

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// addressed is a connection with a given remote address.
type addressed struct {
	net.Conn // nil
	from     string
	says     bool // something
	closed   bool
}

func (c *addressed) Read(p []byte) (int, error) {
	if c.says {
		return len(p), nil
	}
	return 0, io.EOF
}

func (c *addressed) RemoteAddr() net.Addr {
	if c.from == "unix:" {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}
func (c *addressed) Close() error { c.closed = true; return nil }

func (l *preAuthLimiter) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.len() == 0 && len(l.addresses) == 0
}

func noProxies(netip.Addr) bool { return false }

func TestPreAuthLimiter(t *testing.T) {
	const stays, goes = false, true
	type arrival struct {
		from   string
		closed bool // after all arrivals
	}
	for _, c := range []struct {
		name        string
		max, perOne int
		arrivals    []arrival
	}{
		{"room for all", 3, 3, []arrival{{"10.0.0.1:1", stays}, {"10.0.0.1:2", stays}, {"10.0.0.1:3", stays}}},
		{"oldest of an address", 9, 2, []arrival{{"10.0.0.2:1", stays}, {"10.0.0.1:1", goes}, {"10.0.0.1:2", goes}, {"10.0.0.1:3", stays}, {"10.0.0.1:4", stays}}},
		{"oldest of all", 2, 9, []arrival{{"10.0.0.1:1", goes}, {"10.0.0.2:1", goes}, {"10.0.0.3:1", stays}, {"10.0.0.1:2", stays}}},
		{"its own address first", 2, 1, []arrival{{"10.0.0.1:1", stays}, {"10.0.0.2:1", goes}, {"10.0.0.2:2", stays}}},
		{"one /64", 9, 1, []arrival{{"[2001:db8::1]:1", goes}, {"[2001:db8:0:1::1]:1", stays}, {"[2001:db8::ffff:0:0:2]:1", stays}}},
		{"mapped", 9, 1, []arrival{{"[::ffff:10.0.0.1]:1", goes}, {"10.0.0.1:2", stays}}},
		{"one of each", 1, 1, []arrival{{"10.0.0.1:1", goes}, {"10.0.0.2:1", stays}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newPreAuthLimiter(c.max, c.perOne, noProxies)
			var raw []*addressed
			var conns []*preAuthConn
			for _, a := range c.arrivals {
				raw = append(raw, &addressed{from: a.from})
				conns = append(conns, l.add(raw[len(raw)-1]))
			}
			for i, a := range c.arrivals {
				if raw[i].closed != a.closed {
					t.Errorf("%s: closed %v, want %v", a.from, raw[i].closed, a.closed)
				}
			}
			for _, x := range conns {
				x.Close()
				x.Close()
			}
			if !l.empty() {
				t.Error("connections are counted after their end")
			}
		})
	}
}

// Connections that send nothing do not close those in the middle of their
// handshake, which have their half of the room, and cannot be locked out by them.
func TestPreAuthLimiterEvictsSilentFirst(t *testing.T) {
	l := newPreAuthLimiter(100, 8, noProxies)
	arrive := func(speaks bool) *addressed {
		raw := &addressed{from: "10.0.0.1:1", says: speaks}
		l.add(raw).Read(make([]byte, 1))
		return raw
	}
	client := arrive(true)
	for range 1000 {
		arrive(false)
	}
	if client.closed {
		t.Error("a client in mid-handshake is closed for silent ones")
	}
	for range 1000 { // a slow flood fills its half, and no more
		arrive(true)
	}
	silent := arrive(false)
	for range 3 {
		arrive(false)
	}
	if silent.closed || l.len() != 8 {
		t.Errorf("a new connection cannot say anything before it is closed: %d are counted", l.len())
	}
	if !client.closed {
		t.Error("the oldest does not make room")
	}
}

// A proxy in front is many clients, to which only the bound for all applies.
func TestPreAuthLimiterProxies(t *testing.T) {
	trusted := trustedProxies{netip.MustParsePrefix("10.0.0.0/8")}
	l := newPreAuthLimiter(3, 1, func(peer netip.Addr) bool { return trusted.include(peer) })
	for _, from := range []string{"10.0.0.1:1", "[::ffff:10.0.0.1]:2", "unix:"} {
		raw := []*addressed{{from: from}, {from: from}, {from: from}, {from: from}}
		var conns []*preAuthConn
		for _, nc := range raw {
			conns = append(conns, l.add(nc))
		}
		if !raw[0].closed || raw[1].closed || l.rejected.Counts()["address"] > 0 {
			t.Errorf("4 of %s: closed %v, %v; %v", from, raw[0].closed, raw[1].closed, l.rejected.Counts())
		}
		for _, c := range conns {
			c.Close()
		}
		if !l.empty() {
			t.Error("connections are counted after their end")
		}
	}
	trusted = nil
	first := &addressed{from: "unix:"}
	l.add(first)
	l.add(&addressed{from: "unix:"})
	if !first.closed {
		t.Error("a peer on a unix socket counts as a proxy although no proxy is trusted")
	}
}

func TestPreAuthLimiterExempt(t *testing.T) {
	l := newPreAuthLimiter(1, 1, noProxies)
	raw := &addressed{from: "10.0.0.1:1"}
	c := l.add(raw)
	exempt(l.connContext(t.Context(), c))
	if !l.empty() {
		t.Error("counted although it is exempt")
	}
	next := l.add(&addressed{from: "10.0.0.1:2"})
	if raw.closed {
		t.Error("an exempt connection is closed to make room")
	}
	c.Close()
	if l.empty() {
		t.Error("the end of an exempt connection is counted as another's")
	}
	next.Close()
	exempt(t.Context()) // a request on a connection that no limiter counts
	exempt(l.connContext(t.Context(), raw))
}

// A connection is counted while it carries no stream of a route, each time as the
// newest.
func TestPreAuthLimiterRestore(t *testing.T) {
	l := newPreAuthLimiter(2, 2, noProxies)
	raw := &addressed{from: "10.0.0.1:1"}
	c := l.add(raw)
	ctx := l.connContext(t.Context(), c)
	first, second := exempt(ctx), exempt(ctx)
	first()
	if l.len() != 0 {
		t.Error("counted while a stream is left")
	}
	older, newer := &addressed{from: "10.0.0.1:2"}, &addressed{from: "10.0.0.1:3"}
	l.add(older)
	l.add(newer)
	second()
	if raw.closed || !older.closed || newer.closed || l.len() != 2 {
		t.Errorf("after the last stream %d are counted; closed: %v, older %v, newer %v", l.len(), raw.closed, older.closed, newer.closed)
	}
	third := exempt(ctx)
	c.Close()
	third()
	if l.len() != 1 {
		t.Errorf("%d are counted after the end of one of 2", l.len())
	}
	raw = &addressed{from: "10.0.0.1:4"}
	last := exempt(l.connContext(t.Context(), l.add(raw)))
	l.stop()
	last()
	if raw.closed {
		t.Error("the end of a stream cannot be sent when the server stops")
	}
}

func TestPreAuthLimiterStop(t *testing.T) {
	l := newPreAuthLimiter(9, 9, noProxies)
	silent, busy, late := &addressed{from: "10.0.0.1:1"}, &addressed{from: "10.0.0.1:2"}, &addressed{from: "10.0.0.1:3"}
	l.add(silent)
	l.connState(l.add(busy), http.StateActive)
	l.stop()
	l.add(late)
	if !silent.closed || busy.closed || !late.closed {
		t.Errorf("closed: silent %v, busy %v, late %v", silent.closed, busy.closed, late.closed)
	}
	l.closeAll()
	if !busy.closed || !l.empty() {
		t.Error("closeAll leaves connections")
	}
}

func TestPreAuthLimiterCountsNoEndedConnection(t *testing.T) {
	g := start(t, Config{MaxConnsPerAddress: 100}, Access{Users: users(t, user("alice"))})
	for i := range 10_000 {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		case 1:
			c.(*net.TCPConn).CloseWrite()
			c.(*net.TCPConn).SetLinger(0)
			defer c.Close()
			if i > 300 { // descriptors are limited
				c.Close()
			}
		case 2:
			c.(*net.TCPConn).SetLinger(0)
			c.Write([]byte("x"))
			c.Close()
		}
	}
	g.session(t, "alice")
	eventually(t, "no connection is counted", func() bool { return g.limiter.empty() })

}
