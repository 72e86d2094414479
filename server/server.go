// Package server is the gateway: one http.Handler that is a tunnel endpoint
// for those who may use it and an ordinary web site for everyone else.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/internal/audit"
	"adit/internal/dialout"
	"adit/internal/progress"
	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/ws"
)

// Defaults of Config and Access that the configuration's reference shows.
const (
	DefaultTunnelPath         = "/tunnel"
	DefaultMaxSessionsPerUser = 64
	DefaultMaxStreams         = 4096
)

// Config is what stays for the life of a server. The zero value is useful.
type Config struct {
	// TunnelPath is the URL path of the tunnel endpoint. "" is
	// DefaultTunnelPath.
	TunnelPath string
	// CertNames gives the names by which a verified client certificate may be
	// known to Access.Users. Nil: certificates identify nobody.
	CertNames func(*x509.Certificate) []string
	// Site answers everyone else. Default: a small page at "/", 404 elsewhere.
	Site http.Handler

	// MaxSessionsPerUser bounds the sessions of a user who has no bound of
	// their own, and those of all anonymous clients together. 0 is
	// DefaultMaxSessionsPerUser.
	MaxSessionsPerUser int
	// MaxConnsPerAddress bounds the connections of one client address (IPv6:
	// one /64) that have not authenticated. A further one replaces the oldest
	// of them. Access.TrustedProxies are many clients, not one. Default 256.
	MaxConnsPerAddress int
	// MaxConns bounds all connections that have not authenticated, in the
	// same way. Default 4096.
	MaxConns int

	// HandshakeTimeout bounds the TLS handshake and, after it, the header of
	// each request. Default 10 s.
	HandshakeTimeout time.Duration
	// RequestTimeout bounds the reading of a whole request, unless Site has
	// another bound, as that of ProxySite. Default 1 min.
	RequestTimeout time.Duration
	// IdleTimeout is how long a connection may wait between requests.
	// Default 1 min.
	IdleTimeout time.Duration
	// LastRequestTimeout is how long Shutdown still serves what was under way when
	// it began: the first request of a connection that has been accepted, and
	// streams that clients open before they know that they are to leave.
	// Default 1 s.
	LastRequestTimeout time.Duration
	// DialTimeout bounds the name resolution and the connection to a target.
	// Default 10 s.
	DialTimeout time.Duration

	// MaxConnectionAge is how old a session's connection may get until the
	// client is asked to move to a new one, up to a tenth of the time earlier.
	// Default: any age.
	MaxConnectionAge time.Duration
	// ResumeMemory bounds what sessions that wait for their clients hold, in
	// bytes; see mux.SessionStore. How long they wait is Mux.ResumeTimeout.
	// Default 256 MiB.
	ResumeMemory int64

	// TicketLifetime is how long a ticket for a route is good, to the second.
	// A route's users get tickets at its path + "/.ticket", and a web page
	// opens the route with ?ticket=TICKET. Default 1 min.
	TicketLifetime time.Duration

	// Mux has the limits of sessions; its MaxStreams is Access.MaxStreams, and
	// its Logger the one here.
	Mux mux.Config
	// Resolver resolves the names of targets. Default: net.DefaultResolver.
	Resolver *net.Resolver
	// Logger gets one line for each event that an operator acts on. Default:
	// discarded.
	Logger *slog.Logger
	// Audit gets a record of each stream and each connection of a route when
	// it has ended or been refused. It must not block. Nil: nobody wants any.
	Audit func(audit.Record)
}

// Access says who may reach what. It can be replaced while the server runs.
type Access struct {
	Users *auth.Users
	// Targets are the named targets: HOST:PORT or unix:PATH by name.
	Targets map[string]string
	// Anonymous are rules, as in auth.ParsePolicy, for what clients without
	// credentials may reach. None: nothing, and no session at all.
	Anonymous []string
	// Routes are the paths at which plain WebSockets reach backends. A server
	// that has routes needs neither users nor anonymous access. Connections of
	// a route that is gone or has changed go on as they are, if their users
	// may still use the server.
	Routes []Route

	// MaxStreams bounds the streams of a session that begins from now on. 0 is
	// DefaultMaxStreams.
	MaxStreams int
	// TrustedProxies are the addresses of proxies in front, whose
	// X-Forwarded-For or Forwarded says where a client comes from: for the
	// log, the limits of addresses, and the PROXY protocol to backends. If
	// there are any, proxies that connect to a unix socket are trusted, too.
	// Default: none, such headers are ignored.
	TrustedProxies []netip.Prefix
}

// ErrOpen refuses a server that nobody could use and that would better not be
// one that everybody can.
var ErrOpen = errors.New("no users are configured")

// Server is the gateway. Make one with New.
type Server struct {
	cfg    Config
	log    *slog.Logger
	access atomic.Pointer[access]
	gate   *gate
	http   *http.Server

	failures        rejections // of authentication
	refusals        rejections // of routes
	sessionRefusals rejections

	tickets  ticketKey
	hotReads atomic.Int64 // see maxHotReads
	counters counters

	progress progress.Monitor // see Healthy

	resumable mux.SessionStore

	ctx    context.Context // ends when Shutdown gives up waiting
	cancel context.CancelFunc

	listening     context.Context // ends when nothing more is to be accepted
	stopListening context.CancelFunc

	routeCtx   context.Context // ends when routes' connections are to end
	cutRoutes  context.CancelFunc
	routeConns sync.WaitGroup
	routesCut  atomic.Int64

	mu        sync.Mutex // also orders SetAccess and the start of sessions
	sessions  map[*session]struct{}
	userConns map[*clientEnd]caller // of routes with users
	perUser   map[string]int        // sessions
	joining   map[string]int        // connections that are to become or to continue one
	listeners []Listener
	stopping  bool
	wg        sync.WaitGroup // sessions, from their reservation on
}

// access is an Access that has been checked.
type access struct {
	users     *auth.Users
	targets   map[string]dialout.Address
	anonymous *auth.Identity // nil: none
	routes    routeTable

	maxStreams     int
	trustedProxies []netip.Prefix
}

// New makes a server. It fails where a rule or target is malformed, and with
// ErrOpen where neither users nor anonymous access are configured.
func New(cfg Config, a Access) (*Server, error) {
	orDefault(&cfg.TunnelPath, DefaultTunnelPath)
	orDefault(&cfg.MaxSessionsPerUser, DefaultMaxSessionsPerUser)
	orDefault(&cfg.MaxConnsPerAddress, 256)
	orDefault(&cfg.MaxConns, 4096)
	orDefault(&cfg.HandshakeTimeout, 10*time.Second)
	orDefault(&cfg.RequestTimeout, time.Minute)
	orDefault(&cfg.IdleTimeout, time.Minute)
	orDefault(&cfg.LastRequestTimeout, time.Second)
	orDefault(&cfg.DialTimeout, 10*time.Second)
	orDefault(&cfg.TicketLifetime, time.Minute)
	orDefault(&cfg.Mux.Silence, 45*time.Second)
	if cfg.Site == nil {
		cfg.Site = DefaultSite()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Mux.Logger = cfg.Logger
	s := &Server{
		cfg: cfg, log: cfg.Logger,
		gate:      newGate(cfg.MaxConns, cfg.MaxConnsPerAddress),
		sessions:  make(map[*session]struct{}),
		userConns: make(map[*clientEnd]caller),
		perUser:   make(map[string]int),
		joining:   make(map[string]int),
		tickets:   newTicketKey(),
		counters:  newCounters(),
	}
	s.gate.front = func(peer netip.Addr) bool { return trustedPeer(s.access.Load().trustedProxies, peer) }
	s.failures.log, s.failures.message = s.log, authenticationFailed
	s.refusals.log, s.refusals.message = s.log, routeRefused
	s.sessionRefusals.log, s.sessionRefusals.message = s.log, sessionRefused
	s.resumable.MaxDetached = cfg.ResumeMemory
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.listening, s.stopListening = context.WithCancel(context.Background())
	s.routeCtx, s.cutRoutes = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.HandshakeTimeout, // net/http applies it to the TLS handshake, too
		ReadTimeout:       cfg.RequestTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    16 << 10,
		Protocols:         protocols(),
		HTTP2:             http2Config(),
		ConnContext:       s.gate.connContext,
		ConnState:         s.gate.connState,
		ErrorLog:          log.New(handshakeLog{httpLog{s.log}, s.counters.handshakes}, "", 0),
	}
	if err := s.SetAccess(a); err != nil {
		return nil, err
	}
	return s, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// SetAccess replaces who may reach what, all at once or, on an error, not at
// all. Sessions, and connections of routes, of users who are gone, or who no
// longer have the credential that was shown for them, are closed; the streams of
// the others go on, and their new streams are judged by the new rules.
func (s *Server) SetAccess(a Access) error {
	next := &access{
		users: a.Users, targets: make(map[string]dialout.Address, len(a.Targets)),
		maxStreams: a.MaxStreams, trustedProxies: slices.Clone(a.TrustedProxies),
	}
	orDefault(&next.maxStreams, DefaultMaxStreams)
	for name, text := range a.Targets {
		to, err := dialout.ParseAddress(text)
		if err != nil {
			return fmt.Errorf("target %q: %w", name, err)
		}
		next.targets[name] = to
	}
	if len(a.Anonymous) > 0 {
		policy, err := auth.ParsePolicy(a.Anonymous)
		if err != nil {
			return fmt.Errorf("anonymous access: %w", err)
		}
		next.anonymous = &auth.Identity{Policy: policy}
	}
	if a.Users.Len() == 0 && next.anonymous == nil && len(a.Routes) == 0 {
		return ErrOpen
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var before routeTable
	if old := s.access.Load(); old != nil {
		before = old.routes
	}
	var err error
	if next.routes, err = newRouteTable(a.Routes, a, s.cfg.TunnelPath, before); err != nil {
		return err
	}
	s.access.Store(next)
	for x := range s.sessions {
		s.review(x, next)
	}
	for c, who := range s.userConns {
		reviewConn(c, who, next)
	}
	return nil
}

// Serve accepts connections from ln until Shutdown, and then returns nil. A
// nil config means no TLS. It closes ln. It may be called for several
// listeners.
func (s *Server) Serve(ln net.Listener, config *tls.Config) error {
	s.log.Info("listening", "addr", ln.Addr().String(), "tls", config != nil)
	defer s.addListener(ln, config != nil)()
	socket := ln
	defer context.AfterFunc(s.listening, func() { socket.Close() })()
	ln = s.gate.listener(tunnel.FastListener(ln), s.cfg.Mux.Silence)
	ln = s.progress.Listener(ln)
	if config != nil {
		ln = tls.NewListener(ln, s.offerHTTP2(config))
	}
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) && s.listening.Err() == nil {
		return fmt.Errorf("serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// lastFrames is how long what net/http has still to send may take at the end.
const lastFrames = 500 * time.Millisecond

// Shutdown stops accepting, tells the clients, waits until their streams have
// ended or ctx is done, and closes what is left. The error, which wraps that
// of ctx, says how many sessions had streams that were cut short.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	var sessions []*session
	for x := range s.sessions {
		sessions = append(sessions, x)
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	var all sync.WaitGroup
	var cut, routes atomic.Int64
	routesEnded := make(chan struct{})
	all.Go(func() {
		routes.Store(s.drainRoutes(ctx))
		close(routesEnded)
	})
	all.Go(func() {
		s.stopListening()
		s.awaitLastRequests(ctx)
		s.gate.stop() // net/http would wait 5 s for connections that never said anything
		if s.http.Shutdown(ctx) == nil {
			return
		}
		// Over HTTP/2 the Close frames of routes leave by connections of
		// net/http, and so do the ends of their streams.
		<-routesEnded
		flush, cancel := context.WithTimeout(context.Background(), lastFrames)
		defer cancel()
		if s.http.Shutdown(flush) != nil {
			s.http.Close()
		}
	})
	for _, x := range sessions {
		all.Go(func() {
			x.mux.EndWithConnection() // nobody could come back
			x.mux.SendGoingAway()
			s.awaitLastStreams(ctx, x)
			if x.mux.Shutdown(ctx, mux.CloseAway, "the server is stopping") != nil {
				cut.Add(1)
			}
		})
	}
	all.Wait()
	s.cancel()
	s.cutRoutes()
	s.gate.closeAll() // net/http forgets the site's WebSockets
	s.wg.Wait()
	s.failures.flush()
	s.refusals.flush()
	s.sessionRefusals.flush()
	var faults []error
	if n := cut.Load(); n > 0 {
		faults = append(faults, fmt.Errorf("the streams of %d sessions were cut short: %w", n, context.Cause(ctx)))
	}
	if n := routes.Load(); n > 0 {
		faults = append(faults, fmt.Errorf("%d connections of routes were cut short: %w", n, context.Cause(ctx)))
	}
	return errors.Join(faults...)
}

// awaitLastRequests waits until all that were accepted have sent a request, for
// the time that they get. net/http answers none that come later.
func (s *Server) awaitLastRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.LastRequestTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		accepting := len(s.listeners) > 0
		s.mu.Unlock()
		if !accepting && !s.gate.silent() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// awaitLastStreams gives a client that has been asked to leave the time for it:
// streams that it opened before it knew are served. One that has none closes
// its session. Of a short time to drain it is half.
func (s *Server) awaitLastStreams(ctx context.Context, x *session) {
	patience := s.cfg.LastRequestTimeout
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-x.mux.Done():
	case <-ctx.Done():
	}
}

// ServeHTTP is the whole of the server: the tunnel and the routes for those
// who may, the site for the rest. A stranger gets the same answer, after the
// same time, at the path of the tunnel or of a route with users as anywhere
// else that does not exist.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.Header.Values("Authorization")) > 1 {
		http.Error(w, "400 more than one Authorization", http.StatusBadRequest)
		return
	}
	if !ws.IsUpgrade(r) && !ws.IsExtendedConnect(r) {
		if !s.serveTicket(w, r) {
			s.cfg.Site.ServeHTTP(w, r)
		}
		return
	}
	a := s.access.Load()
	var rt *route
	if r.URL.Path != s.cfg.TunnelPath {
		rt = a.routes.lookup(r.Host, r.URL.Path)
	}
	if rt != nil && rt.users == nil {
		s.serveRoute(w, r, rt, caller{})
		return
	}
	// Judged, and logged, whether or not there is anything at the path: so it
	// takes as long on all paths.
	who, err := s.identify(a, r, rt)
	switch {
	case err != nil:
		s.logRejected(r, err)
	case rt != nil && rt.admits(who.identity):
		s.serveRoute(w, r, rt, who)
		return
	case rt != nil:
		rt.counters.refused.Add("user")
		const reason = "not one of the route's users"
		client := s.clientAddr(r)
		addr := addrText(client)
		if who.identity.Name != "" || s.refusals.admit(client) {
			s.log.Warn(routeRefused, "route", rt.id.String(), "user", userName(who.identity.Name), "addr", addr, "reason", reason)
		}
		s.record(audit.Route, newSessionID(), who.identity.Name, addr, rt.id.String()).end(mux.Forbidden.String(), reason)
	case r.URL.Path == s.cfg.TunnelPath && ws.IsUpgrade(r) && who.mayTunnel():
		if !fromForeignPage(r) {
			s.serveTunnel(w, r, who)
			return
		}
		s.counters.sessionsRefused.Add("origin")
		s.logRefused(s.clientAddr(r), who.identity.Name, "a web page of another site asks for it")
	}
	s.cfg.Site.ServeHTTP(w, r)
}

// logRejected notes that a caller is nobody.
func (s *Server) logRejected(r *http.Request, err error) {
	s.countRejected(err)
	client := s.clientAddr(r)
	if errors.Is(err, auth.ErrNoCredentials) {
		s.log.Debug("no credentials", "addr", addrText(client), "path", r.URL.Path) // a passer-by
		return
	}
	s.logFailure(client, r.URL.Path, err)
}

// remoteAddr is the address that a request came from; invalid where there is
// none, as over a unix socket.
func remoteAddr(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}

// httpLog passes net/http's complaints on: those about clients as debug lines,
// those about the server itself as errors.
type httpLog struct{ log *slog.Logger }

func (w httpLog) Write(p []byte) (int, error) {
	message := strings.TrimSuffix(string(p), "\n")
	level := slog.LevelDebug
	for _, fault := range []string{"http: panic serving", "http2: panic serving", "http: Accept error"} {
		if strings.HasPrefix(message, fault) {
			level = slog.LevelError
		}
	}
	w.log.Log(context.Background(), level, "http", "message", message)
	return len(p), nil
}
