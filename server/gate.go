package server

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"adit/internal/metrics"
	"adit/tunnel"
)

// gate bounds the connections that have not authenticated. It never turns a
// newcomer away: it closes the one that has been there longest, so that a
// crowd of silent connections cannot lock out the one that has something to
// say.
type gate struct {
	max, maxPerAddress int
	front              func(peer netip.Addr) bool // is it a proxy, and so many clients?
	rejected           *metrics.Tally             // by the bound

	mu        sync.Mutex
	all       list.List // of *gatedConn, oldest first
	addresses map[netip.Prefix]*list.List
	stopped   bool
}

func newGate(max, maxPerAddress int) *gate {
	return &gate{
		max: max, maxPerAddress: maxPerAddress, front: func(netip.Addr) bool { return false },
		addresses: make(map[netip.Prefix]*list.List), rejected: metrics.NewTally("address", "all"),
	}
}

// gatedConn is a connection that the gate counts while it is neither admitted nor
// closed.
type gatedConn struct {
	net.Conn
	gate       *gate
	address    netip.Addr    // of the other end; invalid where there is none
	inAll      *list.Element // nil: not counted
	inSame     *list.Element // among those of one client; nil: not counted there
	spoke      bool          // has sent a request
	admissions int
	closed     bool
}

type gatedListener struct {
	net.Listener
	gate    *gate
	silence time.Duration
}

// listener counts what ln accepts. Data that stays unacknowledged for as long
// as silence ends a connection.
func (g *gate) listener(ln net.Listener, silence time.Duration) net.Listener {
	return gatedListener{ln, g, silence}
}

func (l gatedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tunnel.SetUserTimeout(nc, l.silence) // an optimisation: the link notices silence by itself
	return l.gate.enter(nc), nil
}

func (g *gate) enter(nc net.Conn) *gatedConn {
	c := &gatedConn{Conn: nc, gate: g, address: addrOf(nc.RemoteAddr())}
	g.mu.Lock()
	evicted := c
	if !g.stopped {
		evicted = g.addLocked(c)
	}
	g.mu.Unlock()
	if evicted != nil {
		evicted.Conn.Close()
	}
	return c
}

// addLocked counts a connection as the newest. The one that has to make room for
// it, if any, is counted no longer and for the caller to close.
func (g *gate) addLocked(c *gatedConn) (evicted *gatedConn) {
	c.inAll = g.all.PushBack(c)
	var same *list.List
	if !g.front(c.address) {
		prefix := addrPrefix(c.address)
		if same = g.addresses[prefix]; same == nil {
			same = list.New()
			g.addresses[prefix] = same
		}
		c.inSame = same.PushBack(c)
	}
	switch {
	case same != nil && same.Len() > g.maxPerAddress:
		evicted = same.Front().Value.(*gatedConn)
		g.rejected.Add("address")
	case g.all.Len() > g.max:
		evicted = g.all.Front().Value.(*gatedConn)
		g.rejected.Add("all")
	default:
		return nil
	}
	g.removeLocked(evicted)
	return evicted
}

// leave takes back an admission. Without any, the connection is counted again
// if it goes on; at the end of the server it is net/http's to close.
func (g *gate) leave(c *gatedConn) {
	g.mu.Lock()
	var evicted *gatedConn
	if c.admissions--; c.admissions == 0 && !c.closed && !g.stopped {
		evicted = g.addLocked(c)
	}
	g.mu.Unlock()
	if evicted != nil {
		evicted.Conn.Close()
	}
}

// connState is http.Server.ConnState: it notes who has sent a request.
func (g *gate) connState(nc net.Conn, state http.ConnState) {
	if c := gated(nc); c != nil && state == http.StateActive {
		g.mu.Lock()
		c.spoke = true
		g.mu.Unlock()
	}
}

// silent reports whether there are connections that have not sent a request yet.
func (g *gate) silent() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.all.Front(); e != nil; e = e.Next() {
		if !e.Value.(*gatedConn).spoke {
			return true
		}
	}
	return false
}

// stop closes the connections that have not sent a request yet, and all that
// come later.
func (g *gate) stop() { g.close(func(c *gatedConn) bool { return !c.spoke }) }

// closeAll closes all connections, also those that a site has hijacked, and
// all that come later.
func (g *gate) closeAll() { g.close(func(*gatedConn) bool { return true }) }

func (g *gate) close(which func(*gatedConn) bool) {
	g.mu.Lock()
	g.stopped = true
	var conns []*gatedConn
	for e := g.all.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*gatedConn); which(c) {
			conns = append(conns, c)
		}
	}
	g.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (g *gate) removeLocked(c *gatedConn) {
	if c.inAll == nil {
		return
	}
	g.all.Remove(c.inAll)
	c.inAll = nil
	if c.inSame == nil {
		return
	}
	prefix := addrPrefix(c.address)
	same := g.addresses[prefix]
	same.Remove(c.inSame)
	c.inSame = nil
	if same.Len() == 0 {
		delete(g.addresses, prefix)
	}
}

func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	c.closed = true
	c.gate.removeLocked(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite ends our direction, for the end of a WebSocket.
func (c *gatedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// NetConn gives what is below, for socket options.
func (c *gatedConn) NetConn() net.Conn { return c.Conn }

// addrOf is an address that may be none, as over a unix socket.
func addrOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr()
}

// gated finds the gate's part of a connection; nil when it has none.
func gated(nc net.Conn) *gatedConn {
	for {
		if c, ok := nc.(*gatedConn); ok {
			return c
		}
		below, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = below.NetConn()
	}
}

type gatedKey struct{}

// connContext is http.Server.ConnContext: it lets a handler admit the
// connection that its request came on.
func (g *gate) connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, gatedKey{}, gated(nc))
}

// admit says that the connection of a request has authenticated, or carries what
// has a bound of its own. Over HTTP/2 that may end before the connection does:
// then leave has it counted again.
func admit(ctx context.Context) (leave func()) {
	c, _ := ctx.Value(gatedKey{}).(*gatedConn)
	if c == nil {
		return func() {}
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.admissions++
	c.gate.removeLocked(c)
	return func() { c.gate.leave(c) }
}
