package serverd

import (
	"context"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/systemd"
)

// reload puts the configuration as it is now into force, or changes nothing and
// returns false.
func (d *Daemon) reload(ctx context.Context) (good bool) {
	d.notify(systemd.Reloading())
	defer func() { d.notify(systemd.Ready(d.status())) }()
	cfg, faults := config.LoadServer(d.Sources)
	next, more := d.newPlan(cfg, d.plan, len(faults) > 0)
	faults = append(faults, more...)
	if len(faults) == 0 && (next.tls == nil) != (d.plan.tls == nil) {
		faults.Add("tls", hint.Errorf("restart the server", "TLS cannot be turned on or off by a reload"))
	}
	if len(faults) == 0 {
		faults = accessFaults(cfg, d.server.SetAccess(next.access))
	}
	if len(faults) > 0 {
		for _, f := range faults {
			d.log.Error("reload failed", hint.Attrs(f)...)
		}
		next.discard()
		d.reopenAudit()
		return false
	}
	old := d.plan
	if old.source != next.source {
		old.stop()
	}
	d.plan = next
	d.site.Store(&next.site)
	d.tls.Store(next.tls)
	d.publish(next.source)
	next.watch(ctx, d.log, d.renewed)
	d.level.Set(cfg.Log.Level)
	d.startAudit(next.audit)
	for _, key := range cfg.NeedRestart(d.started) {
		d.log.Warn("setting requires a restart", "key", key)
	}
	d.log.Info("reloaded", "users", next.access.Users.Len(), "targets", len(next.access.Targets), "routes", len(next.access.Routes))
	d.announce()
	return true
}

// publish makes source the one that certificates and renewed use.
func (d *Daemon) publish(source certs.Source) {
	d.source.Store(&source)
	if source != nil {
		d.renewed()
	}
}
