// Package serverd assembles the server from its configuration and runs it as a
// process: listeners, certificates, site, audit records, admin endpoint,
// notifications to systemd, reload and drain.
package serverd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/admin"
	"adit/auth"
	"adit/certs"
	"adit/internal/config"
	"adit/internal/daemon"
	"adit/internal/metrics"
	"adit/mux"
	"adit/server"
	"adit/systemd"
)

// Options are what a Daemon gets from its process.
type Options struct {
	Sources   config.Sources      // read at the start and at each reload
	Getenv    func(string) string // os.Getenv
	Version   string              // of adit, for the admin endpoint
	CheckOnly bool                // New creates nothing on disk, and Run must not be called

	Stdout io.Writer // audit records, if configured
	Stderr io.Writer // the log, and audit records if configured
}

// Daemon is a server that is ready to run.
type Daemon struct {
	Options
	passwords *auth.PasswordLimiter
	log       *slog.Logger
	level     *slog.LevelVar // of log

	// Used by the goroutine of New and Run only.
	plan    *plan          // in force
	started *config.Server // in force at the start

	server       *server.Server // set by Run
	reloads      metrics.Reloads
	site         atomic.Pointer[http.Handler] // in force
	certificates certificates
	audit        auditLog
}

// New reads the configuration and the files that it names. The error lists every
// fault.
func New(o Options) (*Daemon, error) {
	cfg, faults := config.LoadServer(o.Sources)
	d := &Daemon{Options: o, passwords: auth.NewPasswordLimiter(auth.PasswordLimiterOptions{})}
	d.log, d.level = daemon.NewLogger(cfg.Log, o.Stderr)
	d.audit.log, d.audit.stdout, d.audit.stderr = d.log, o.Stdout, o.Stderr
	// After a fault, the search for more must not create anything on disk.
	var more config.Faults
	d.plan, more = d.newPlan(cfg, nil, o.CheckOnly || len(faults) > 0)
	faults = append(faults, more...)
	if len(faults) == 0 {
		faults = append(faults, checkRoutes(cfg, d.plan.access)...)
	}
	return d, faults.Err()
}

// Logger is the logger that the configuration asks for.
func (d *Daemon) Logger() *slog.Logger { return d.log }

// ConfigFile is the configuration file that was read, or "".
func (d *Daemon) ConfigFile() string { return d.plan.cfg.File }

// Run serves until ctx ends, drains, and returns nil then. A value on reload makes
// it read the configuration again.
func (d *Daemon) Run(ctx context.Context, reload <-chan os.Signal) error {
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	if d.server, err = d.newServer(); err != nil {
		daemon.CloseAll(listeners)
		return err
	}
	// Certificates and the watchdog are needed until the drain is over.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	d.certificates.log, d.certificates.server = d.log, d.server
	d.putIntoForce(running)
	defer func() { d.plan.tls.stop() }()
	defer d.audit.stop()
	d.started = d.plan.cfg
	d.announce()
	what := admin.Config{Server: d.server, Certificates: d.certificates.list, Reloads: &d.reloads, AuditLost: d.audit.lost.Load, Version: d.Version}
	stopAdmin, err := daemon.StartAdmin(d.plan.cfg.Admin, d.Getenv("RUNTIME_DIRECTORY"), what, d.log)
	if err != nil {
		daemon.CloseAll(listeners)
		return err
	}
	defer stopAdmin()
	stopMetrics, err := daemon.StartMetrics(d.plan.cfg.Metrics, what, d.log)
	if err != nil {
		daemon.CloseAll(listeners)
		return err
	}
	defer stopMetrics()

	var serving sync.WaitGroup
	failed := make(chan error, len(listeners))
	conf := d.certificates.listenerTLS()
	for _, l := range listeners {
		serving.Go(func() {
			if err := d.server.Serve(l, conf); err != nil {
				failed <- err
			}
		})
	}
	d.notify(systemd.Ready(d.status()))
	go daemon.Watchdog(running, d.server.Healthy, d.log)
	for {
		select {
		case err := <-failed:
			d.shutdown(err, 0, 0)
			serving.Wait()
			return err
		case <-reload:
			d.reloads.Note(d.reload(running))
		case <-ctx.Done():
			d.shutdown(context.Cause(ctx), d.plan.cfg.DrainDelay, d.plan.cfg.DrainTimeout)
			serving.Wait()
			return nil
		}
	}
}

func (d *Daemon) listen() ([]net.Listener, error) {
	sockets, err := daemon.TakeSockets()
	if err != nil {
		return nil, err
	}
	listeners, err := sockets.Listen(d.plan.cfg.Listen, daemon.SocketFile{Mode: d.plan.cfg.ListenMode, Group: d.plan.cfg.ListenGroup})
	sockets.CloseUnused(d.log)
	return listeners, err
}

func (d *Daemon) newServer() (*server.Server, error) {
	cfg := d.plan.cfg
	return server.New(server.Config{
		TunnelPath:       cfg.TunnelPath,
		MaxConnectionAge: cfg.MaxConnectionAge,
		ResumeMemory:     int64(cfg.ResumeMemory) << 20,
		StreamMemory:     int64(cfg.StreamMemory) << 20,
		UserStreamMemory: int64(cfg.UserStreamMemory) << 20,
		Mux:              mux.Config{ResumeTimeout: cmp.Or(cfg.ResumeTimeout, -1)}, // 0: not at all, and there the default
		CertNames:        certs.Names,
		Site:             http.HandlerFunc(d.serveSite),
		Logger:           d.log,
		Audit:            d.audit.record,
	}, d.plan.access)
}

// putIntoForce makes the server use the site, the certificates and the destination
// of audit records of the plan, whose certificates it renews until ctx ends.
func (d *Daemon) putIntoForce(ctx context.Context) {
	d.site.Store(&d.plan.site)
	d.certificates.use(d.plan.tls.conf, d.plan.tls.source)
	d.plan.tls.watch(ctx, d.log, d.certificates.renewed)
	d.audit.start(d.plan.audit)
}

// serveSite serves the site in force.
func (d *Daemon) serveSite(w http.ResponseWriter, r *http.Request) {
	(*d.site.Load()).ServeHTTP(w, r)
}

// announce logs the pin that clients need, and what is open to everyone.
func (d *Daemon) announce() {
	if file := d.ConfigFile(); file != "" {
		d.log.Info("configuration read", "file", file)
	}
	if src, ok := d.plan.tls.source.(*certs.FileSource); ok && d.plan.cfg.TLS.SelfSigned != "" {
		d.log.Info("self-signed certificate, clients need its pin", "pin", certs.PinOf(src.Leaf()).String(), "new", d.plan.tls.created)
	}
	for _, rule := range d.plan.cfg.AllowAnonymous {
		d.log.Warn("target is open to everyone", "target", rule)
	}
	if open := openRoutes(d.plan.cfg.Routes); len(open) > 0 {
		count := len(open)
		if count > maxNamed {
			open = append(open[:maxNamed:maxNamed], "…")
		}
		d.log.Warn("routes are open to everyone", "count", count, "routes", strings.Join(open, " "))
	}
	if page := d.plan.cfg.DemoPage; page != "" {
		d.log.Info("demo page is public", "path", page)
	}
}

// maxNamed is how many open routes the log names.
const maxNamed = 20

// openRoutes returns the routes without users, as --route has them.
func openRoutes(routes []server.Route) (open []string) {
	for _, r := range routes {
		if len(r.Users) == 0 {
			open = append(open, r.Host+r.Path+"="+strings.Join(r.Backends, ","))
		}
	}
	return open
}

func (d *Daemon) status() string {
	a := d.plan.access
	return fmt.Sprintf("%d users, %d targets, %d routes", a.Users.Len(), len(a.Targets), len(a.Routes))
}

func (d *Daemon) notify(err error) {
	if err != nil {
		d.log.Warn("systemd notification failed", "error", err)
	}
}

// shutdown says for delay that the server is not ready, stops accepting then, and
// waits at most drain for open streams to end.
func (d *Daemon) shutdown(reason error, delay, drain time.Duration) {
	d.log.Info("stopping", "reason", reason, "drain", drain, "delay", delay)
	d.notify(systemd.Stopping("draining"))
	ended := make(chan struct{})
	extending, stop := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		systemd.ExtendStop(extending, d.server.Healthy, func(err error) {
			d.log.Error("stop timeout not extended", "error", err)
		})
	}()
	defer func() { stop(); <-ended }()
	d.server.Withdraw()
	time.Sleep(delay)
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.log.Warn("drain incomplete", "reason", err)
	}
	d.log.Info("stopped", "pid", os.Getpid())
}
