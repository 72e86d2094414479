package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/ws"
)

// routeEndpoint connects WebSockets to the backends of routes.
type routeEndpoint struct {
	*core
	bufferedReads atomic.Int64 // see maxBufferedReads

	ctx  context.Context // ends when connections are cut
	cut  context.CancelFunc
	cuts atomic.Int64 // connections that were cut

	// Guarded by mu.
	mu        sync.Mutex
	userConns map[*clientEnd]caller // of routes with users
	stopping  bool

	conns sync.WaitGroup
}

func newRouteEndpoint(c *core) *routeEndpoint {
	e := &routeEndpoint{core: c, userConns: make(map[*clientEnd]caller)}
	e.ctx, e.cut = context.WithCancel(context.Background())
	return e
}

// serve connects a WebSocket to the route's backend. It connects to the backend
// first: without one the client gets a plain 502, or 504 after a timeout, and no
// WebSocket. Over HTTP/1.1 the handler returns and the connection outlives it;
// over HTTP/2 the connection ends with the handler.
func (e *routeEndpoint) serve(w http.ResponseWriter, r *http.Request, rt *route, who caller) {
	c := newRouteConn(e.core, r, rt, who)
	offered, err := ws.CheckHandshake(w, r)
	if err != nil {
		c.log.Debug(routeRefused, "reason", err)
		return
	}
	if !e.admit(w, r, c) {
		return
	}
	if err := c.dial(r, e.ctx); err != nil {
		c.refuseDial(w, err)
		return
	}
	accept, inline := ws.Accept, false
	if ws.IsExtendedConnect(r) {
		accept, inline = ws.AcceptConnect, true
	}
	conn, err := accept(w, r, &ws.AcceptOptions{
		Conn:        ws.Options{ValidateUTF8: true},
		Subprotocol: rt.chooseSubprotocol,
		Timeout:     e.cfg.HandshakeTimeout,
	})
	if err != nil {
		c.log.Debug(routeRefused, "reason", err)
		c.rec.end(mux.Cancelled.String(), err.Error())
		tunnel.NewSocket(c.backend).Abort()
		c.done()
		return
	}
	restore := exempt(r.Context())
	if !inline {
		// The kernel cannot tell a slow client from a lost one. The pings can.
		tunnel.ClearUserTimeout(conn.NetConn())
	}
	end := newClientEnd(conn, tunnel.NewSocket(c.backend), &rt.Route, rt.text, &e.bufferedReads)
	rt.counters.begin(end)
	if len(offered) > 0 && conn.Subprotocol() == "" {
		c.unanswered = offered
	}
	if !inline {
		go e.relay(c, end)
		return
	}
	defer restore()
	// The reader may be waiting for the backend when the client resets the stream.
	stop := context.AfterFunc(r.Context(), func() { end.lost("the stream was reset") })
	e.relay(c, end)
	stop()
}

// admit checks the origin and the limits. It reports whether there may be one
// more connection, or refuses it.
func (e *routeEndpoint) admit(w http.ResponseWriter, r *http.Request, c *routeConn) bool {
	if err := c.route.origins.check(r, c.who); err != nil {
		c.refuse(w, http.StatusForbidden, mux.Forbidden, "403 "+errOriginForeign.Error(), err)
		return false
	}
	if !e.start(c) {
		c.refuse(w, http.StatusServiceUnavailable, mux.GoingAway, "503 "+reasonStopping, reasonStopping)
		return false
	}
	if full := c.limit(); full != "" {
		w.Header().Set("Retry-After", "10")
		c.refuse(w, http.StatusServiceUnavailable, mux.Busy, "503 "+full, full)
		return false
	}
	return true
}

// start counts one more connection, for which drain waits until it is done. It
// reports false when the server is stopping.
func (e *routeEndpoint) start(c *routeConn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.conns.Add(1)
	c.release = append(c.release, e.conns.Done)
	return true
}

// relay relays between the client and the backend until both are done.
func (e *routeEndpoint) relay(c *routeConn, end *clientEnd) {
	defer c.done()
	defer c.route.counters.end(end)
	defer e.enlist(end, c.who)()
	start := time.Now()
	stop := context.AfterFunc(e.ctx, func() {
		e.cuts.Add(1)
		end.cut(ws.StatusGoingAway, reasonStopping)
	})
	startWatch(end)
	n, err := tunnel.Relay(end, &backendEnd{Socket: end.backend, failed: end.backendFailed})
	stop()
	sent := int64(end.sentBytes.Load()) // n.BToA counts also what was discarded because the client had closed
	c.rec.relayed(n.AToB, sent, err, end.ending())
	c.explainLeaving(end, time.Since(start))
	c.log.Info("route closed", "received", n.AToB, "sent", sent, "after", time.Since(start).Round(time.Millisecond), "end", end.ending())
}

// enlist keeps the connection of a user for review, until strike is called.
func (e *routeEndpoint) enlist(c *clientEnd, who caller) (strike func()) {
	if who.identity == nil {
		return func() {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.userConns[c] = who
	reviewConn(c, who, e.access.Load()) // it may have changed since the user authenticated
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.userConns, c)
	}
}

// review applies an Access to the connections of users.
func (e *routeEndpoint) review(a *access) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c, who := range e.userConns {
		reviewConn(c, who, a)
	}
}

func reviewConn(c *clientEnd, who caller, a *access) {
	if a.users.Proved(who.identity.Name, who.proof) == nil {
		c.cut(ws.StatusPolicy, "the user or the credential has been removed")
	}
}

// stop refuses further connections.
func (e *routeEndpoint) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopping = true
}

// drain waits until all connections have ended, and at the end of ctx closes them
// with 1001. It returns how many it has closed.
func (e *routeEndpoint) drain(ctx context.Context) (cut int64) {
	ended := make(chan struct{})
	go func() {
		e.conns.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		e.cut()
		<-ended
	}
	return e.cuts.Load()
}

// chooseSubprotocol picks one of the route's subprotocols, or else one that the
// gateway understands: "binary", for messages of that type, before "base64", for
// text messages in that encoding. A page that sends its token as a subprotocol and wants neither can offer "adit",
// which means nothing: a browser requires that one of its offers is chosen.
func (rt *route) chooseSubprotocol(offered []string) string {
	for _, list := range [][]string{rt.Subprotocols, {"binary", "base64"}} {
		for _, p := range list {
			if slices.Contains(offered, p) {
				return p
			}
		}
	}
	if slices.Contains(offered, "adit") && slices.ContainsFunc(offered, isTokenSubprotocol) {
		return "adit"
	}
	return ""
}

func isTokenSubprotocol(p string) bool { return strings.HasPrefix(p, tokenSubprotocol) }
