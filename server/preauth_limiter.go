package server

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"adit/internal/metrics"
	"adit/tunnel"
)

// preAuthLimiter bounds the connections that have not authenticated. It never
// refuses a new connection but closes an old one: the oldest that has sent nothing,
// so that a flood of them does not close a client's in the middle of its handshake,
// or, if at most half are such, the oldest that has sent something.
type preAuthLimiter struct {
	max, maxPerAddress int
	isProxy            func(peer netip.Addr) bool         // a proxy is many clients: no bound per address
	rejected           *metrics.Tally                     // by the bound
	first              func(peer netip.Addr, data []byte) // gets the first data of each connection; may be nil

	// Guarded by mu, as are the fields of each preAuthConn.
	mu        sync.Mutex
	all       preAuthQueue
	addresses map[netip.Prefix]*preAuthQueue
	stopped   bool
}

func newPreAuthLimiter(max, maxPerAddress int, isProxy func(netip.Addr) bool) *preAuthLimiter {
	return &preAuthLimiter{
		max: max, maxPerAddress: maxPerAddress, isProxy: isProxy,
		addresses: make(map[netip.Prefix]*preAuthQueue), rejected: metrics.NewTally("address", "all"),
	}
}

// preAuthQueue is connections, oldest first: those that have sent nothing, and those
// that have, by their first byte.
type preAuthQueue struct{ silent, spoken list.List } // of *preAuthConn

// of returns the list in which a connection is.
func (q *preAuthQueue) of(c *preAuthConn) *list.List {
	if c.spoken {
		return &q.spoken
	}
	return &q.silent
}

func (q *preAuthQueue) len() int { return q.silent.Len() + q.spoken.Len() }

// victim returns the connection that makes room when there are more than limit.
func (q *preAuthQueue) victim(limit int) *preAuthConn {
	e := q.spoken.Front()
	if q.silent.Len() > max(1, limit/2) || e == nil {
		e = q.silent.Front()
	}
	return e.Value.(*preAuthConn)
}

// each iterates over the connections.
func (q *preAuthQueue) each(yield func(*preAuthConn) bool) {
	for _, l := range []*list.List{&q.silent, &q.spoken} {
		for e := l.Front(); e != nil; e = e.Next() {
			if !yield(e.Value.(*preAuthConn)) {
				return
			}
		}
	}
}

// preAuthConn is a connection that the limiter counts until it is closed or
// exempt.
type preAuthConn struct {
	net.Conn
	limiter *preAuthLimiter
	address netip.Addr  // of the peer; invalid where there is none
	heard   atomic.Bool // Read has returned data

	// Guarded by limiter.mu.
	inAll      *list.Element // nil: not counted
	inAddress  *list.Element // in the list of its address; nil: not counted there
	spoken     bool          // has sent data
	requested  bool          // has sent a request
	exemptions int
	closed     bool
}

// listener counts the connections that ln accepts. A connection whose data stays
// unacknowledged for silence ends.
func (l *preAuthLimiter) listener(ln net.Listener, silence time.Duration) net.Listener {
	return preAuthListener{ln, l, silence}
}

type preAuthListener struct {
	net.Listener
	limiter *preAuthLimiter
	silence time.Duration
}

func (ln preAuthListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	// The link detects silence without it, but later.
	tunnel.SetUserTimeout(nc, ln.silence)
	return ln.limiter.add(nc), nil
}

func (l *preAuthLimiter) add(nc net.Conn) *preAuthConn {
	c := &preAuthConn{Conn: nc, limiter: l, address: addrOf(nc.RemoteAddr())}
	l.mu.Lock()
	evicted := c
	if !l.stopped {
		evicted = l.addLocked(c)
	}
	l.mu.Unlock()
	if evicted != nil {
		evicted.Conn.Close()
	}
	return c
}

// addLocked counts a connection as the newest. It returns the connection that
// has to make room, if any, which is no longer counted; the caller closes it.
func (l *preAuthLimiter) addLocked(c *preAuthConn) (evicted *preAuthConn) {
	c.inAll = l.all.of(c).PushBack(c)
	var same *preAuthQueue
	if !l.isProxy(c.address) {
		prefix := addrPrefix(c.address)
		if same = l.addresses[prefix]; same == nil {
			same = new(preAuthQueue)
			l.addresses[prefix] = same
		}
		c.inAddress = same.of(c).PushBack(c)
	}
	switch {
	case same != nil && same.len() > l.maxPerAddress:
		evicted = same.victim(l.maxPerAddress)
		l.rejected.Add("address")
	case l.all.len() > l.max:
		evicted = l.all.victim(l.max)
		l.rejected.Add("all")
	default:
		return nil
	}
	l.removeLocked(evicted)
	return evicted
}

func (l *preAuthLimiter) removeLocked(c *preAuthConn) {
	if c.inAll == nil {
		return
	}
	l.all.of(c).Remove(c.inAll)
	c.inAll = nil
	if c.inAddress == nil {
		return
	}
	prefix := addrPrefix(c.address)
	same := l.addresses[prefix]
	same.of(c).Remove(c.inAddress)
	c.inAddress = nil
	if same.len() == 0 {
		delete(l.addresses, prefix)
	}
}

// len returns how many connections are counted.
func (l *preAuthLimiter) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.len()
}

// Read notes that the connection is no longer silent.
func (c *preAuthConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Load() && !c.heard.Swap(true) {
		c.limiter.notSilent(c)
		if c.limiter.first != nil {
			c.limiter.first(c.address, p[:n])
		}
	}
	return n, err
}

// notSilent moves a connection to those that have sent data.
func (l *preAuthLimiter) notSilent(c *preAuthConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.inAll != nil {
		l.all.silent.Remove(c.inAll)
		c.inAll = l.all.spoken.PushBack(c)
	}
	if c.inAddress != nil {
		same := l.addresses[addrPrefix(c.address)]
		same.silent.Remove(c.inAddress)
		c.inAddress = same.spoken.PushBack(c)
	}
	c.spoken = true
}

// connContext is an http.Server.ConnContext that lets a handler exempt the
// connection of its request.
func (l *preAuthLimiter) connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, preAuthKey{}, preAuthConnOf(nc))
}

type preAuthKey struct{}

// exempt stops counting the connection of a request: it has authenticated, or
// carries what has a bound of its own. Over HTTP/2 that may end before the
// connection does; restore then counts the connection again.
func exempt(ctx context.Context) (restore func()) {
	c, _ := ctx.Value(preAuthKey{}).(*preAuthConn)
	if c == nil {
		return func() {}
	}
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.exemptions++
	c.limiter.removeLocked(c)
	return c.restore
}

// restore takes back one exemption. After the last one the connection is counted
// again, unless the server stops: net/http closes it then.
func (c *preAuthConn) restore() {
	l := c.limiter
	l.mu.Lock()
	var evicted *preAuthConn
	if c.exemptions--; c.exemptions == 0 && !c.closed && !l.stopped {
		evicted = l.addLocked(c)
	}
	l.mu.Unlock()
	if evicted != nil {
		evicted.Conn.Close()
	}
}

// connState is an http.Server.ConnState that notes which connections have sent a
// request.
func (l *preAuthLimiter) connState(nc net.Conn, state http.ConnState) {
	if c := preAuthConnOf(nc); c != nil && state == http.StateActive {
		l.mu.Lock()
		c.requested = true
		l.mu.Unlock()
	}
}

// awaitsRequest reports whether there are connections that have not sent a
// request yet.
func (l *preAuthLimiter) awaitsRequest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.all.each {
		if !c.requested {
			return true
		}
	}
	return false
}

// stop closes the connections that have not sent a request, and all later ones.
func (l *preAuthLimiter) stop() { l.close(func(c *preAuthConn) bool { return !c.requested }) }

// closeAll closes all counted connections, also those that a site has hijacked,
// and all later ones.
func (l *preAuthLimiter) closeAll() { l.close(func(*preAuthConn) bool { return true }) }

func (l *preAuthLimiter) close(which func(*preAuthConn) bool) {
	l.mu.Lock()
	l.stopped = true
	var conns []*preAuthConn
	for c := range l.all.each {
		if which(c) {
			conns = append(conns, c)
		}
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (c *preAuthConn) Close() error {
	c.limiter.mu.Lock()
	c.closed = true
	c.limiter.removeLocked(c)
	c.limiter.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite ends the sending direction, as the close of a WebSocket needs it.
func (c *preAuthConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// NetConn returns the underlying connection, for socket options.
func (c *preAuthConn) NetConn() net.Conn { return c.Conn }

// preAuthConnOf finds the preAuthConn under a connection; nil if there is none.
func preAuthConnOf(nc net.Conn) *preAuthConn {
	for {
		if c, ok := nc.(*preAuthConn); ok {
			return c
		}
		below, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = below.NetConn()
	}
}

// addrOf returns the IP address of addr; it is invalid where there is none, as
// over a unix socket.
func addrOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr()
}
