// Package server is the gateway: one http.Handler that is a tunnel endpoint for
// authenticated clients, connects WebSockets to the backends of routes, and is an
// ordinary web site for everyone else.
//
// How a request gets to its destination, from the top down:
//
//	server.go           ServeHTTP: tunnel, route, ticket or site?
//	caller.go           who sends it
//	tunnel_endpoint.go  starts and resumes sessions   route_endpoint.go  connects WebSockets to backends
//	stream.go           serves a session's streams    route_client.go    the WebSocket as a relay's end
//	authorize.go        may it reach the target?      route_pool.go      which backend?
//	sessions.go         all sessions                  route_table.go     which route?
//
// core.go has what these share. preauth_limiter.go bounds the connections that
// have not authenticated, bounded_log.go the log lines that they can cause.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"adit/internal/audit"
	"adit/internal/progress"
	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/ws"
)

// Server is the gateway. Make one with New.
type Server struct {
	*core
	limiter *preAuthLimiter
	tunnel  *tunnelEndpoint
	routes  *routeEndpoint
	http    *http.Server

	progress progress.Monitor // see Healthy

	listening     context.Context // ends when no more connections are accepted
	stopListening context.CancelFunc

	accessMu sync.Mutex // held during SetAccess

	// Guarded by mu.
	mu        sync.Mutex
	listeners []Listener
	withdrawn bool // Ready says that the server is stopping
	stopping  bool
}

// New makes a server. It fails if a rule, target or route is malformed, and with
// ErrOpen if the Access admits nobody.
func New(cfg Config, a Access) (*Server, error) {
	cfg.setDefaults()
	c := newCore(cfg)
	s := &Server{core: c, tunnel: newTunnelEndpoint(c), routes: newRouteEndpoint(c)}
	s.limiter = newPreAuthLimiter(cfg.MaxConns, cfg.MaxConnsPerAddress, func(peer netip.Addr) bool {
		return c.access.Load().trustedProxies.include(peer)
	})
	s.limiter.first = c.logProxyHeader
	s.listening, s.stopListening = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.HandshakeTimeout, // net/http applies it to the TLS handshake, too
		ReadTimeout:       cfg.RequestTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    16 << 10,
		Protocols:         protocols(),
		HTTP2:             http2Config(),
		ConnContext:       s.limiter.connContext,
		ConnState:         s.connState,
		ErrorLog:          log.New(handshakeLog{httpLog{c.log}, c.counters.handshakes}, "", 0),
	}
	if err := s.SetAccess(a); err != nil {
		return nil, err
	}
	return s, nil
}

// SetAccess replaces who may reach what, all at once or, on an error, not at all.
// Sessions and route connections end if their user, or the credential that was
// shown for them, was removed. All other streams continue; the new rules apply to
// new streams.
func (s *Server) SetAccess(a Access) error {
	s.accessMu.Lock()
	defer s.accessMu.Unlock()
	var before routeTable
	if old := s.access.Load(); old != nil {
		before = old.routes
	}
	next, err := newAccess(a, s.cfg.TunnelPath, before)
	if err != nil {
		return err
	}
	// A session or connection that starts now is judged by next, or is reviewed.
	s.access.Store(next)
	s.tunnel.sessions.review(next)
	s.routes.review(next)
	return nil
}

// Serve accepts connections from ln until Shutdown, and then returns nil. A nil
// config means no TLS. It closes ln. It may be called for several listeners.
func (s *Server) Serve(ln net.Listener, config *tls.Config) error {
	s.log.Info("listening", "addr", ln.Addr().String(), "tls", config != nil)
	defer s.addListener(Listener{ln.Addr().String(), config != nil})()
	guarded := s.shortage.Listener(tunnel.FastListener(ln))
	defer context.AfterFunc(s.listening, func() { guarded.Close() })()
	ln = s.limiter.listener(guarded, s.cfg.Mux.Silence)
	ln = s.progress.Listener(ln)
	if config != nil {
		ln = tls.NewListener(ln, offerHTTP2(config, func() bool { return len(s.access.Load().routes) > 0 }))
	}
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) && s.listening.Err() == nil {
		return fmt.Errorf("serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// Listener is where a server listens.
type Listener struct {
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
}

func (s *Server) addListener(l Listener) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.listeners, l); i >= 0 {
			s.listeners = slices.Delete(s.listeners, i, i+1)
		}
	}
}

// ServeHTTP answers every request: the tunnel and the routes for clients that may
// use them, the site for everyone else. An unauthenticated client gets the same
// answer, after the same time, at the path of the tunnel or of a route with users
// as at any other path that does not exist.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.Header.Values("Authorization")) > 1 {
		http.Error(w, "400 more than one Authorization", http.StatusBadRequest)
		return
	}
	if !ws.IsUpgrade(r) && !ws.IsExtendedConnect(r) {
		if !s.serveTicket(w, r) {
			s.logDamage(r, s.access.Load())
			s.serveSite(w, r)
		}
		return
	}
	a := s.access.Load()
	var rt *route
	if r.URL.Path != s.cfg.TunnelPath {
		rt = a.routes.lookup(r.Host, r.URL.Path)
	}
	if rt != nil && rt.users == nil {
		s.routes.serve(w, r, rt, caller{})
		return
	}
	// Also where there is nothing at the path, so that all paths take the same
	// time and leave the same log lines.
	who, err := s.identify(a, r, rt)
	switch {
	case err != nil:
		s.logRejected(r, err)
	case rt != nil && rt.admits(who.identity):
		s.routes.serve(w, r, rt, who)
		return
	case rt != nil:
		s.refuseRoute(r, rt, who.identity.Name)
	case r.URL.Path == s.cfg.TunnelPath && ws.IsUpgrade(r) && who.mayTunnel():
		if !fromForeignPage(r) {
			s.tunnel.serve(w, r, who)
			return
		}
		s.counters.sessionsRefused.Add("origin")
		s.logSessionRefused(s.clientAddr(r), who.identity.Name, "a web page of another site asks for it")
	case r.URL.Path != s.cfg.TunnelPath && who.identity.Name != "":
		s.log.Warn("no endpoint at this path", "user", who.identity.Name, "addr", addrText(s.clientAddr(r)), "path", truncate(r.URL.Path),
			"hint", "the tunnel is at "+s.cfg.TunnelPath+"; every other path needs a [[route]]")
	}
	s.logDamage(r, a)
	s.serveSite(w, r)
}

// refuseRoute counts, logs and records that a route does not admit a user. The
// number of lines is bounded only for anonymous clients.
func (s *Server) refuseRoute(r *http.Request, rt *route, user string) {
	const reason = "not one of the route's users"
	client := s.clientAddr(r)
	rt.counters.refused.Add("user")
	if user != "" || s.refusals.allow(client) {
		s.log.Warn(routeRefused, "route", rt.id.String(), "user", userName(user), "addr", addrText(client), "reason", reason)
	}
	s.record(audit.Route, newSessionID(), user, addrText(client), rt.id.String()).end(mux.Forbidden.String(), reason)
}

// RequestMigration asks all clients to migrate to new connections, each at a random
// moment within a time. Their streams continue.
func (s *Server) RequestMigration(within time.Duration) { s.tunnel.sessions.requestMigration(within) }
