package serverd

import (
	"context"

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
	if len(faults) == 0 && (next.tls.conf == nil) != (d.plan.tls.conf == nil) {
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
		d.audit.reopen(d.plan.cfg.Audit)
		return false
	}
	if d.plan.tls.source != next.tls.source {
		d.plan.tls.stop()
	}
	d.plan = next
	d.putIntoForce(ctx)
	d.level.Set(cfg.Log.Level)
	for _, key := range cfg.NeedRestart(d.started) {
		d.log.Warn("setting requires a restart", "key", key)
	}
	d.log.Info("reloaded", "users", next.access.Users.Len(), "targets", len(next.access.Targets), "routes", len(next.access.Routes))
	d.announce()
	return true
}
