package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"adit/internal/audit"
	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/ws"
)

// serveRoute connects a WebSocket to the route's backend. The backend comes
// first: a client whose backend is not there gets a plain 502, or a 504 where
// it was too slow, and no WebSocket. Over HTTP/1.1 the handler returns and the
// connection goes on; over HTTP/2 the handler is the connection's life.
func (s *Server) serveRoute(w http.ResponseWriter, r *http.Request, rt *route, who caller) {
	client := s.clientAddr(r)
	user := ""
	if who.identity != nil {
		user = who.identity.Name
	}
	rec := s.record(audit.Route, newSessionID(), user, addrText(client), rt.id.String())
	log := s.log.With("route", rt.id.String(), "user", userName(user), "addr", addrText(client))
	_, err := ws.CheckHandshake(w, r)
	if err != nil {
		log.Debug("route refused", "reason", err)
		return
	}
	refuse := func(status int, result mux.Code, text string, reason any) {
		rt.counters.refused.Add(routeRefusals[status])
		if s.refusals.admit(client) {
			log.Warn(routeRefused, "status", status, "reason", reason)
		}
		rec.end(result.String(), fmt.Sprint(reason))
		http.Error(w, text, status)
	}
	if err := rt.originAllowed(r, who.hasSecret()); err != nil {
		refuse(http.StatusForbidden, mux.Forbidden, "403 "+errOriginForeign.Error(), err)
		return
	}
	if !s.startRoute() {
		refuse(http.StatusServiceUnavailable, mux.GoingAway, "503 the server is stopping", "the server is stopping")
		return
	}
	done := s.routeConns.Done
	giveBack, full := rt.places.take(client.Addr(), rt.MaxConns, rt.MaxConnsPerAddress)
	if full != "" {
		w.Header().Set("Retry-After", "10")
		refuse(http.StatusServiceUnavailable, mux.Busy, "503 "+full, full)
		done()
		return
	}

	// Given up when the client goes away, or the server does.
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.routeCtx, cancel)
	start := time.Now()
	backend, name, release, err := rt.pool.dial(ctx, s.cfg.Resolver, rt.ConnectTimeout)
	if err == nil {
		err = introduce(backend, rt, client, r)
		if err != nil {
			backend.Close()
			release()
		}
	}
	gone := ctx.Err() != nil
	s.counters.routeDials.Add(dialResult(err, gone), time.Since(start))
	stop()
	cancel()
	if err != nil {
		switch {
		case gone:
			log.Debug("route refused", "reason", err)
			rec.end(mux.Cancelled.String(), err.Error())
		case errors.Is(err, os.ErrDeadlineExceeded):
			refuse(http.StatusGatewayTimeout, mux.Timeout, "504 the backend does not answer", err)
		default:
			refuse(http.StatusBadGateway, mux.Unreachable, "502 the backend cannot be reached", err)
		}
		giveBack()
		done()
		return
	}
	log = log.With("backend", name)
	rec.dialled(backend)

	accept, inline := ws.Accept, false
	if ws.IsExtendedConnect(r) {
		accept, inline = ws.AcceptConnect, true
	}
	conn, err := accept(w, r, &ws.AcceptOptions{
		Conn:        ws.Options{ValidateUTF8: true},
		Subprotocol: chooseSubprotocol,
		Timeout:     s.cfg.HandshakeTimeout,
	})
	if err != nil {
		log.Debug("route refused", "reason", err)
		rec.end(mux.Cancelled.String(), err.Error())
		tunnel.NewSocket(backend).Abort()
		release()
		giveBack()
		done()
		return
	}
	leave := admit(r.Context())
	if !inline {
		// The kernel cannot tell a client that is slow from one that is gone.
		// The pings can.
		tunnel.ClearUserTimeout(conn.NetConn())
	}
	end := newClientEnd(conn, tunnel.NewSocket(backend), rt, &s.hotReads)
	rt.counters.begin(end)
	run := func() {
		defer rt.counters.end(end)
		defer done()
		defer giveBack()
		defer release()
		defer s.enlist(end, who)()
		s.bridge(end, func(n tunnel.Transferred, after time.Duration, err error) {
			rec.relayed(n.AToB, n.BToA, err, end.ending())
			log.Info("route closed", "received", n.AToB, "sent", n.BToA, "after", after.Round(time.Millisecond), "end", end.ending())
		})
	}
	if inline {
		defer leave()
		// Nobody may be reading when the client resets the stream.
		stop := context.AfterFunc(r.Context(), func() { end.lost("the stream was reset") })
		run()
		stop()
		return
	}
	go run()
}

// startRoute counts one more connection that Shutdown waits for, unless the
// server is stopping.
func (s *Server) startRoute() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.routeConns.Add(1)
	return true
}

// introduce tells the backend of its client.
func introduce(backend net.Conn, rt *route, client netip.AddrPort, r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	header, err := proxyHeader(rt.ProxyProtocol, client, local)
	if err != nil || header == nil {
		return err
	}
	_, err = backend.Write(header) // it fits an empty send buffer
	return err
}

// bridge relays between a client and its backend until both are done.
func (s *Server) bridge(c *clientEnd, report func(tunnel.Transferred, time.Duration, error)) {
	start := time.Now()
	stop := context.AfterFunc(s.routeCtx, func() {
		s.routesCut.Add(1)
		c.cut(ws.StatusGoingAway, "the server is stopping")
	})
	c.watch()
	n, err := tunnel.Relay(c, &backendEnd{Socket: c.backend, broken: c.backendBroke})
	stop()
	report(n, time.Since(start), err)
}

// enlist keeps a connection of a route with users for SetAccess to review.
func (s *Server) enlist(c *clientEnd, who caller) (strike func()) {
	if who.identity == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userConns[c] = who
	reviewConn(c, who, s.access.Load()) // SetAccess may have missed it
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.userConns, c)
	}
}

// reviewConn applies an Access to a user's connection.
func reviewConn(c *clientEnd, who caller, a *access) {
	if a.users.Proved(who.identity.Name, who.proof) == nil {
		c.cut(ws.StatusPolicy, "the user, or the credential, is good no longer")
	}
}

// drainRoutes waits until all routes' connections have ended, and at the end
// of ctx closes them with 1001. It returns how many it has closed.
func (s *Server) drainRoutes(ctx context.Context) int64 {
	ended := make(chan struct{})
	go func() {
		s.routeConns.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		s.cutRoutes()
		<-ended
	}
	return s.routesCut.Load()
}

// chooseSubprotocol picks what the gateway understands: "binary", which is
// messages of that type, before "base64", which is text messages in that
// encoding. A page that sends its token as a subprotocol and wants neither can
// offer "adit", which means nothing; a browser insists on being answered one.
func chooseSubprotocol(offered []string) string {
	for _, p := range []string{"binary", "base64"} {
		if slices.Contains(offered, p) {
			return p
		}
	}
	if slices.Contains(offered, "adit") && slices.ContainsFunc(offered, isTokenSubprotocol) {
		return "adit"
	}
	return ""
}

func isTokenSubprotocol(p string) bool { return strings.HasPrefix(p, tokenSubprotocol) }
