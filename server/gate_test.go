package server

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// addressed is a connection from an address of the test's choice.
type addressed struct {
	net.Conn // nil
	from     string
	closed   bool
}

func (c *addressed) RemoteAddr() net.Addr {
	if c.from == "unix:" {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}
func (c *addressed) Close() error { c.closed = true; return nil }

func (g *gate) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all.Len() == 0 && len(g.addresses) == 0
}

func TestGate(t *testing.T) {
	const stays, goes = false, true
	type arrival struct {
		from   string
		closed bool // in the end
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
			g := newGate(c.max, c.perOne)
			var raw []*addressed
			var conns []*gatedConn
			for _, a := range c.arrivals {
				raw = append(raw, &addressed{from: a.from})
				conns = append(conns, g.enter(raw[len(raw)-1]))
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
			if !g.empty() {
				t.Error("connections are counted after their end")
			}
		})
	}
}

// A proxy in front is as many clients as come through it, which only the bound for
// all holds.
func TestGateFronts(t *testing.T) {
	g := newGate(3, 1)
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	g.front = func(peer netip.Addr) bool { return trustedPeer(trusted, peer) }
	for _, from := range []string{"10.0.0.1:1", "[::ffff:10.0.0.1]:2", "unix:"} {
		raw := []*addressed{{from: from}, {from: from}, {from: from}, {from: from}}
		var conns []*gatedConn
		for _, nc := range raw {
			conns = append(conns, g.enter(nc))
		}
		if !raw[0].closed || raw[1].closed || g.rejected.Counts()["address"] > 0 {
			t.Errorf("4 of %s: closed %v, %v; %v", from, raw[0].closed, raw[1].closed, g.rejected.Counts())
		}
		for _, c := range conns {
			c.Close()
		}
		if !g.empty() {
			t.Error("connections are counted after their end")
		}
	}
	trusted = nil
	first := &addressed{from: "unix:"}
	g.enter(first)
	g.enter(&addressed{from: "unix:"})
	if !first.closed {
		t.Error("whoever comes by a unix socket is a proxy in front of a server that trusts none")
	}
}

func TestGateAdmit(t *testing.T) {
	g := newGate(1, 1)
	raw := &addressed{from: "10.0.0.1:1"}
	c := g.enter(raw)
	admit(g.connContext(t.Context(), c))
	if !g.empty() {
		t.Error("counted after it was admitted")
	}
	next := g.enter(&addressed{from: "10.0.0.1:2"})
	if raw.closed {
		t.Error("an admitted connection makes room for a newcomer")
	}
	c.Close()
	if g.empty() {
		t.Error("the end of an admitted connection is counted as another's")
	}
	next.Close()
	admit(t.Context()) // a request on a connection of no gate
	admit(g.connContext(t.Context(), raw))
}

// A connection over which streams of routes come and go is counted between them,
// each time as the newest.
func TestGateReturn(t *testing.T) {
	g := newGate(2, 2)
	raw := &addressed{from: "10.0.0.1:1"}
	c := g.enter(raw)
	ctx := g.connContext(t.Context(), c)
	first, second := admit(ctx), admit(ctx)
	first()
	if g.len() != 0 {
		t.Error("counted while a stream is left")
	}
	older, newer := &addressed{from: "10.0.0.1:2"}, &addressed{from: "10.0.0.1:3"}
	g.enter(older)
	g.enter(newer)
	second()
	if raw.closed || !older.closed || newer.closed || g.len() != 2 {
		t.Errorf("after the last stream %d are counted; closed: %v, older %v, newer %v", g.len(), raw.closed, older.closed, newer.closed)
	}
	third := admit(ctx)
	c.Close()
	third()
	if g.len() != 1 {
		t.Errorf("%d are counted after the end of one of 2", g.len())
	}
	raw = &addressed{from: "10.0.0.1:4"}
	last := admit(g.connContext(t.Context(), g.enter(raw)))
	g.stop()
	last()
	if raw.closed {
		t.Error("the end of a stream cannot be sent when the server stops")
	}
}

func TestGateStop(t *testing.T) {
	g := newGate(9, 9)
	silent, busy, late := &addressed{from: "10.0.0.1:1"}, &addressed{from: "10.0.0.1:2"}, &addressed{from: "10.0.0.1:3"}
	g.enter(silent)
	g.connState(g.enter(busy), http.StateActive)
	g.stop()
	g.enter(late)
	if !silent.closed || busy.closed || !late.closed {
		t.Errorf("closed: silent %v, busy %v, late %v", silent.closed, busy.closed, late.closed)
	}
	g.closeAll()
	if !busy.closed || !g.empty() {
		t.Error("closeAll leaves connections")
	}
}

func TestGateAccounts(t *testing.T) {
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
			if i > 300 { // only so many descriptors
				c.Close()
			}
		case 2:
			c.(*net.TCPConn).SetLinger(0)
			c.Write([]byte("x"))
			c.Close()
		}
	}
	g.session(t, "alice")
	eventually(t, "nobody is counted", func() bool { return g.gate.empty() })

}
