package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"adit/admin"
	"adit/auth"
	"adit/certs"
	"adit/internal/audit"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/metrics"
	"adit/mux"
	"adit/server"
	"adit/systemd"
)

// gateway is a running adit server.
type gateway struct {
	src       config.Sources
	passwords *auth.PasswordLimiter
	log       *slog.Logger
	level     *slog.LevelVar // of log
	plan      *plan          // in force; only run's goroutine touches it, and the next
	started   *config.Server // what it was at the start

	server *server.Server
	audit  atomic.Pointer[audit.Log] // nil: there is none
	site   atomic.Pointer[http.Handler]
	tls    atomic.Pointer[tls.Config]
	source atomic.Pointer[certs.Source] // of the plan in force

	movedMu sync.Mutex
	moved   []*x509.Certificate // in force when the clients were last asked to move

	reloads metrics.Reloads
}

// run serves until a signal to stop, and returns nil then.
func (g *gateway) run(ctx context.Context) error {
	cfg := g.plan.cfg
	// First of all: until then a signal would simply kill the process.
	reload, stop, release := signals()
	defer release()
	outlivePipes()
	sockets, err := takeSockets()
	if err != nil {
		return err
	}
	listeners, err := listenAll(cfg.Listen, sockets)
	for _, name := range sockets.closeRest() {
		g.log.Warn("systemd handed over a socket that the configuration does not use", "name", name, "hint", `listen = ["systemd:`+name+`"]`)
	}
	if err != nil {
		return err
	}
	g.server, err = server.New(server.Config{
		TunnelPath:       cfg.TunnelPath,
		MaxConnectionAge: cfg.MaxConnectionAge,
		ResumeMemory:     int64(cfg.ResumeMemory) << 20,
		Mux:              mux.Config{ResumeTimeout: orNever(cfg.ResumeTimeout)},
		CertNames:        certs.Names,
		Site:             http.HandlerFunc(g.serveSite),
		Logger:           g.log,
		Audit:            g.record,
	}, g.plan.access)
	if err != nil {
		closeAll(listeners)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.site.Store(&g.plan.site)
	g.tls.Store(g.plan.tls)
	g.publish(g.plan.source)
	g.plan.watch(ctx, g.log, g.renewed)
	defer func() { g.plan.stop() }()
	g.startAudit(g.plan.audit)
	defer g.stopAudit()
	g.started = cfg
	g.announce()
	stopAdmin, err := startAdmin(cfg.Admin, admin.Config{Server: g.server, Certificates: g.certificates, Reloads: &g.reloads}, g.log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer stopAdmin()

	var serving sync.WaitGroup
	failed := make(chan error, len(listeners))
	conf := g.listenerTLS()
	for _, l := range listeners {
		serving.Go(func() {
			if err := g.server.Serve(l, conf); err != nil {
				failed <- err
			}
		})
	}
	g.notify(systemd.Ready(g.status()))
	go watchdog(ctx, g.server.Healthy, g.log)
	for {
		select {
		case err := <-failed:
			g.shutdown(0)
			serving.Wait()
			return err
		case <-reload:
			g.reloads.Note(g.reload(ctx))
		case <-stop:
			exitOnSecond(stop, ctx.Done(), g.log)
			g.shutdown(g.plan.cfg.DrainTimeout)
			serving.Wait()
			return nil
		}
	}
}

// publish puts the certificates of a plan where admin and renewed look.
func (g *gateway) publish(source certs.Source) {
	g.source.Store(&source)
	if source != nil {
		g.renewed()
	}
}

// serveSite hands strangers to the site in force.
func (g *gateway) serveSite(w http.ResponseWriter, r *http.Request) {
	(*g.site.Load()).ServeHTTP(w, r)
}

// listenerTLS is the configuration of the listeners: the one in force at the
// time of each handshake.
func (g *gateway) listenerTLS() *tls.Config {
	if g.plan.tls == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return g.tls.Load(), nil
	}}
}

// announce says how clients recognise this server, and whom it lets in.
func (g *gateway) announce() {
	if src, ok := g.plan.source.(*certs.FileSource); ok && g.plan.cfg.TLS.SelfSigned != "" {
		g.log.Info("self-signed certificate: clients need --pin", "pin", certs.PinOf(src.Leaf()).String(), "new", g.plan.created)
	}
	for _, rule := range g.plan.cfg.AllowAnonymous {
		g.log.Warn("anyone may reach this target", "target", rule)
	}
	for _, r := range g.plan.cfg.Routes {
		if len(r.Users) == 0 {
			g.log.Warn("anyone may reach the backend of this route: it has no users", "route", r.Host+r.Path, "backend", r.Backends)
		}
	}
	if page := g.plan.cfg.DemoPage; page != "" {
		g.log.Info("the demonstration page is public", "path", page)
	}
}

func (g *gateway) status() string {
	a := g.plan.access
	return fmt.Sprintf("%d users, %d targets, %d routes", a.Users.Len(), len(a.Targets), len(a.Routes))
}

func (g *gateway) notify(err error) {
	if err != nil {
		g.log.Warn("systemd is not told", "error", err)
	}
}

// reload puts the configuration as it is now into force, or changes nothing.
func (g *gateway) reload(ctx context.Context) (good bool) {
	g.notify(systemd.Reloading())
	defer func() { g.notify(systemd.Ready(g.status())) }()
	cfg, faults := config.LoadServer(g.src)
	next, more := newPlan(cfg, g.passwords, g.plan, g.log, len(faults) > 0)
	faults = append(faults, more...)
	if len(faults) == 0 && (next.tls == nil) != (g.plan.tls == nil) {
		faults.Add("tls", hint.Errorf("restart the server", "TLS cannot be turned on or off by a reload"))
	}
	if len(faults) == 0 {
		faults = accessFaults(cfg, g.server.SetAccess(next.access))
	}
	if len(faults) > 0 {
		for _, f := range faults {
			g.log.Error("reload refused, nothing is changed", hint.Attrs(f)...)
		}
		next.discard()
		g.reopenAudit()
		return false
	}
	old := g.plan
	if old.source != next.source {
		old.stop()
	}
	g.plan = next
	g.site.Store(&next.site)
	g.tls.Store(next.tls)
	g.publish(next.source)
	next.watch(ctx, g.log, g.renewed)
	g.level.Set(cfg.Log.Level)
	g.startAudit(next.audit)
	for _, key := range cfg.NeedRestart(g.started) {
		g.log.Warn("this change takes a restart", "key", key)
	}
	g.log.Info("reloaded", "users", next.access.Users.Len(), "targets", len(next.access.Targets), "routes", len(next.access.Routes))
	g.announce()
	return true
}

// Clients that are asked to go over to new connections do so at random moments:
// of so much time for each client, but at most of a minute.
const (
	moveEach   = 100 * time.Millisecond
	moveWithin = time.Minute
)

// renewed asks the clients to go over to connections under the certificates that
// are now in force, if one of them is new. A new ACME source has none at first,
// and then mostly those of the source before.
func (g *gateway) renewed() {
	g.movedMu.Lock()
	defer g.movedMu.Unlock()
	known := func(leaf *x509.Certificate) bool { return slices.ContainsFunc(g.moved, leaf.Equal) }
	leaves := (*g.source.Load()).Leaves()
	if !slices.ContainsFunc(leaves, func(leaf *x509.Certificate) bool { return !known(leaf) }) {
		return
	}
	g.moved = leaves
	n := len(g.server.Status().Sessions)
	if n == 0 {
		return
	}
	within := min(time.Duration(n)*moveEach, moveWithin)
	g.log.Info("clients are asked to move to connections under the new certificate", "sessions", n, "within", within)
	g.server.RequestMigration(within)
}

// record hands an audit record on.
func (g *gateway) record(r audit.Record) {
	if l := g.audit.Load(); l != nil {
		l.Put(r)
	}
}

// startAudit makes the records go to sink from now on, or with nil nowhere.
func (g *gateway) startAudit(sink audit.Sink) {
	l := g.audit.Load()
	switch {
	case sink == nil:
		g.stopAudit()
	case l != nil:
		l.Replace(sink)
	default:
		g.audit.Store(audit.New(sink, audit.Options{Report: func(lost int64, err error) {
			g.log.Error("audit records are lost", "records", lost, "error", err)
		}}))
	}
}

// reopenAudit opens the audit file in force anew: it may have been moved away.
func (g *gateway) reopenAudit() {
	if g.plan.cfg.Audit == "" {
		return
	}
	sink, err := openAudit(g.plan.cfg.Audit, false)
	if err != nil {
		g.log.Error("the audit file cannot be opened anew, the old one is written on", hint.Attrs(err)...)
		return
	}
	g.startAudit(sink)
}

// auditPatience is how long the last audit records may take to be written.
const auditPatience = 5 * time.Second

func (g *gateway) stopAudit() {
	l := g.audit.Swap(nil)
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditPatience)
	defer cancel()
	_ = l.Close(ctx) // Report has told of what is lost
}

// shutdown lets live streams end for at most the drain time.
func (g *gateway) shutdown(drain time.Duration) {
	g.log.Info("stopping", "drain", drain)
	g.notify(systemd.Stopping("draining"))
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	ended := make(chan struct{})
	extending, stop := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		systemd.ExtendStop(extending, g.server.Healthy, func(err error) {
			g.log.Error("systemd is not asked for more time", "error", err)
		})
	}()
	defer func() { stop(); <-ended }()
	if err := g.server.Shutdown(ctx); err != nil {
		g.log.Warn("streams were cut short", "reason", err)
	}
	g.log.Info("stopped", "pid", os.Getpid())
}
