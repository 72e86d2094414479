// Package admin serves the state of a running server or client over HTTP:
// metrics for Prometheus, health and readiness, a JSON document and a page that
// shows it. Everything is read-only.
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
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// Config configures an Admin. Exactly one of Server and Client must be set.
type Config struct {
	Server *server.Server
	Client *client.Client
	// Version is the program's version.
	Version string
	// Certificates returns the server's certificates in use. Nil: none.
	Certificates func() []Certificate
	// Reloads counts reloads of the configuration. Nil: none happen.
	Reloads *metrics.Reloads
	// HealthTimeout is how long /healthz waits for the health check.
	// Default 5 s.
	HealthTimeout time.Duration
	// Pprof also serves Go's profiles below /debug/pprof/.
	Pprof bool
	// AuditLost returns how many audit records were lost. Nil: there are none.
	AuditLost func() uint64
	// MetricsOnly serves /metrics, /healthz and /readyz and nothing else, to
	// clients of any machine.
	MetricsOnly bool
	// Logger receives errors of the HTTP server. Default: discarded.
	Logger *slog.Logger
}

// Certificate is one certificate of a server.
type Certificate struct {
	Name    string    `json:"name"` // the certificate's first name
	Expires time.Time `json:"expires"`
}

// Admin serves the state of one server or client. Make one with New.
type Admin struct {
	cfg     Config
	started time.Time
	http    *http.Server
}

// New returns an Admin. Its error is that of a Config without exactly one of
// Server and Client.
func New(cfg Config) (*Admin, error) {
	if (cfg.Server == nil) == (cfg.Client == nil) {
		return nil, errors.New("admin: either Server or Client must be set")
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
	if cfg.AuditLost == nil {
		cfg.AuditLost = func() uint64 { return 0 }
	}
	if cfg.HealthTimeout == 0 {
		cfg.HealthTimeout = 5 * time.Second
	}
	a := &Admin{cfg: cfg, started: time.Now().UTC()}
	a.http = &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than the usual scrape interval
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(errorLog{cfg.Logger}, "", 0),
	}
	return a, nil
}

// Serve serves connections of ln until Close, and then returns nil. It closes
// ln.
func (a *Admin) Serve(ln net.Listener) error {
	if err := a.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin address %s: %w", ln.Addr(), err)
	}
	return nil
}

// Close ends Serve and all connections.
func (a *Admin) Close() error { return a.http.Close() }

// Handler returns the handler that Serve uses.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.serveHealth)
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{
		ErrorLog:            log.New(errorLog{a.cfg.Logger}, "", 0),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, // bounds the work that many scrapers cause
	}))
	if a.cfg.MetricsOnly {
		return noStore(mux)
	}
	mux.Handle("GET /{$}", statusPage())
	mux.HandleFunc("GET /status", a.serveStatus)
	if a.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return refuseOtherSites(mux)
}

// ready returns nil if the process is ready, else the reason why not.
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

// healthy returns nil if the process makes progress, else what is stuck.
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

// errorLog logs the errors of net/http and promhttp.
type errorLog struct{ log *slog.Logger }

func (w errorLog) Write(p []byte) (int, error) {
	w.log.Warn("admin server error", "message", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
