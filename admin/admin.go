// Package admin is how an operator watches a running server or client: metrics
// for Prometheus, health, a JSON document and a page that shows it. It only
// looks: nothing can be changed through it.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// Config says what there is to watch. Server or Client must be set, one of them.
type Config struct {
	Server *server.Server
	Client *client.Client
	// Version is the program's.
	Version string
	// Certificates, if not nil, are those that the server has at the moment.
	Certificates func() []Certificate
	// Reloads, if not nil, counts how often the configuration was read again.
	Reloads *metrics.Reloads
	// HealthTimeout is how long /healthz waits for signs of progress.
	// Default 5 s.
	HealthTimeout time.Duration
	// Pprof also shows Go's profiles below /debug/pprof/.
	Pprof bool
	// Logger gets errors of the server. Default: discarded.
	Logger *slog.Logger
}

// Certificate is one certificate of a server.
type Certificate struct {
	Name    string    `json:"name"` // the first name in it
	Expires time.Time `json:"expires"`
}

// Admin serves what Config names. Make one with New.
type Admin struct {
	cfg     Config
	started time.Time
	http    *http.Server
}

// New makes an Admin. Handler and Serve work at once.
func New(cfg Config) (*Admin, error) {
	if (cfg.Server == nil) == (cfg.Client == nil) {
		return nil, errors.New("admin: there must be either a server or a client to watch")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Certificates == nil {
		cfg.Certificates = func() []Certificate { return nil }
	}
	if cfg.Reloads == nil {
		cfg.Reloads = &metrics.Reloads{}
	}
	if cfg.HealthTimeout == 0 {
		cfg.HealthTimeout = 5 * time.Second
	}
	a := &Admin{cfg: cfg, started: time.Now().UTC()}
	a.http = &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than Prometheus takes between two scrapes
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(errorLog{cfg.Logger}, "", 0),
	}
	return a, nil
}

// Serve answers on ln until Close, and then returns nil. It closes ln.
func (a *Admin) Serve(ln net.Listener) error {
	if err := a.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// Close ends Serve and all connections.
func (a *Admin) Close() error { return a.http.Close() }

// Handler is what Serve serves.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", statusPage())
	mux.HandleFunc("GET /status", a.serveStatus)
	mux.HandleFunc("GET /healthz", a.serveHealth)
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{
		ErrorLog:      log.New(errorLog{a.cfg.Logger}, "", 0),
		ErrorHandling: promhttp.ContinueOnError,
		// Several scrapers at once is a mistake, but no reason to ask everything
		// many times over.
		MaxRequestsInFlight: 4,
	}))
	if a.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return guard(mux)
}

// guard keeps web pages of other sites out, which can make a browser on this
// machine ask for anything on loopback. A page that has its name resolve to
// 127.0.0.1 is told by the Host header, all others by what browsers say of where
// a request comes from; and no answer allows another site to read it.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !overUnix(r) && !isLoopbackHost(r.Host) {
			http.Error(w, "421 this is not the name of the admin address: use 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
			return
		}
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
		default:
			if r.URL.Path != "/" { // a link to the page is fine
				http.Error(w, "403 only the status page itself may ask for this", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// overUnix says that a request came by a unix socket, which no browser reaches
// and where the Host header means nothing.
func overUnix(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local != nil && local.Network() == "unix"
}

// isLoopbackHost judges a Host header.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// ready is nil when the process can do its work.
func (a *Admin) ready() error {
	if a.cfg.Server != nil {
		return a.cfg.Server.Ready()
	}
	return a.cfg.Client.Ready()
}

func (a *Admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, "503 not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (a *Admin) serveHealth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.HealthTimeout)
	defer cancel()
	if err := a.healthy(ctx); err != nil {
		http.Error(w, "503 not healthy: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "healthy")
}

// healthy is nil when the process makes progress; see Healthy of both ends.
func (a *Admin) healthy(ctx context.Context) error {
	if a.cfg.Server != nil {
		return a.cfg.Server.Healthy(ctx)
	}
	return a.cfg.Client.Healthy(ctx)
}

func (a *Admin) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.document())
}

// errorLog makes lines of the log of what net/http and promhttp complain about.
type errorLog struct{ log *slog.Logger }

func (w errorLog) Write(p []byte) (int, error) {
	w.log.Warn("admin", "message", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
