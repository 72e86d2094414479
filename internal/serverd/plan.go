package serverd

import (
	"net/http"

	"adit/internal/audit"
	"adit/internal/config"
	"adit/server"
)

// plan is a configuration with every file read: what a start or a reload puts into
// force at once.
type plan struct {
	cfg    *config.Server
	access server.Access
	tls    *tlsSource
	site   http.Handler
	audit  audit.Sink // nil without audit records
}

// newPlan reads the files that the configuration names and lists every fault. old
// is the plan in force, or nil. With dry it creates nothing on disk, and the plan
// cannot be put into force.
func (d *Daemon) newPlan(cfg *config.Server, old *plan, dry bool) (*plan, config.Faults) {
	var faults config.Faults
	var tls *tlsSource
	if old != nil {
		tls = old.tls
	}
	p := &plan{
		cfg:    cfg,
		access: readAccess(cfg, d.passwords, &faults),
		tls:    openTLS(cfg, tls, d.Getenv, dry, &faults),
		site:   openSite(cfg, d.log, &faults),
	}
	if cfg.Audit != "" {
		var err error
		if p.audit, err = d.audit.open(cfg.Audit, dry); err != nil {
			faults.Add(cfg.Origin("audit"), err)
		}
	}
	return p, faults
}

// discard closes what the plan of a failed reload has opened.
func (p *plan) discard() {
	if p.audit != nil {
		p.audit.Close()
	}
}
