package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"adit/auth"
	"adit/certs"
	"adit/internal/config"
	"adit/server"
	"adit/systemd"
)

// gateway is a running adit server.
type gateway struct {
	src   config.Sources
	guard *auth.Guard
	log   *slog.Logger
	plan  *plan // in force; only run's goroutine touches it

	server *server.Server
	site   atomic.Pointer[http.Handler]
	tls    atomic.Pointer[tls.Config]
}

// run serves until a signal to stop, and returns nil then.
func (g *gateway) run(ctx context.Context) error {
	cfg := g.plan.cfg
	// First of all: until then a signal would simply kill the process.
	reload, stop, release := signals()
	defer release()
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
		TunnelPath:     cfg.TunnelPath,
		MaxStreams:     cfg.MaxStreams,
		CertNames:      certs.Names,
		Site:           http.HandlerFunc(g.serveSite),
		TrustedProxies: cfg.TrustedProxies,
		Logger:         g.log,
	}, g.plan.access)
	if err != nil {
		closeAll(listeners)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.site.Store(&g.plan.site)
	g.tls.Store(g.plan.tls)
	g.plan.watch(ctx, g.log)
	defer func() { g.plan.stop() }()
	g.announce()

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
	go watchdog(ctx, g.log)
	for {
		select {
		case err := <-failed:
			g.shutdown(0)
			serving.Wait()
			return err
		case <-reload:
			g.reload(ctx)
		case <-stop:
			exitOnSecond(stop, ctx.Done())
			g.shutdown(cfg.DrainTimeout)
			serving.Wait()
			return nil
		}
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
func (g *gateway) reload(ctx context.Context) {
	g.notify(systemd.Reloading())
	defer func() { g.notify(systemd.Ready(g.status())) }()
	cfg, faults := config.LoadServer(g.src)
	next, more := newPlan(cfg, g.guard, g.plan, g.log, len(faults) > 0)
	faults = append(faults, more...)
	if len(faults) == 0 && (next.tls == nil) != (g.plan.tls == nil) {
		faults.Add("tls", &hinted{errors.New("TLS cannot be turned on or off by a reload"), "restart the server"})
	}
	for _, f := range faults {
		logFault(g.log, "reload refused, nothing is changed", f)
	}
	if len(faults) > 0 {
		return
	}
	if err := g.server.SetAccess(next.access); err != nil {
		for _, f := range accessFaults(cfg, err) {
			logFault(g.log, "reload refused, nothing is changed", f)
		}
		return
	}
	old := g.plan
	if old.source != next.source {
		old.stop()
	}
	g.plan = next
	g.site.Store(&next.site)
	g.tls.Store(next.tls)
	next.watch(ctx, g.log)
	g.warnUnchanged(old.cfg, cfg)
	g.log.Info("reloaded", "users", next.access.Users.Len(), "targets", len(next.access.Targets), "routes", len(next.access.Routes))
	g.announce()
}

// warnUnchanged names what a reload does not change.
func (g *gateway) warnUnchanged(old, now *config.Server) {
	for _, k := range []struct {
		key     string
		changed bool
	}{
		{"listen", !reflect.DeepEqual(old.Listen, now.Listen)},
		{"tunnel.path", old.TunnelPath != now.TunnelPath},
		{"tunnel.max-streams", old.MaxStreams != now.MaxStreams},
		{"trusted-proxies", !reflect.DeepEqual(old.TrustedProxies, now.TrustedProxies)},
		{"drain-timeout", old.DrainTimeout != now.DrainTimeout},
		{"log-level", old.Log.Level != now.Log.Level},
		{"log-format", old.Log.Format != now.Log.Format},
	} {
		if k.changed {
			g.log.Warn("this change takes a restart", "key", k.key)
		}
	}
}

// shutdown lets live streams end for at most the drain time.
func (g *gateway) shutdown(drain time.Duration) {
	g.log.Info("stopping", "drain", drain)
	g.notify(systemd.Stopping("draining"))
	g.notify(systemd.ExtendTimeout(drain + 10*time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := g.server.Shutdown(ctx); err != nil {
		g.log.Warn("streams were cut short", "reason", err)
	}
	g.log.Info("stopped", "pid", os.Getpid())
}
