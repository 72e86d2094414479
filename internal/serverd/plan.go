package serverd

import (
	"crypto/tls"
	"net/http"

	"adit/certs"
	"adit/internal/audit"
	"adit/internal/config"
	"adit/server"
)

// plan is a configuration with every file read: what a start or a reload puts into
// force at once.
type plan struct {
	cfg     *config.Server
	access  server.Access
	site    http.Handler
	source  certs.Source // nil without TLS
	tls     *tls.Config  // nil without TLS
	created bool         // the self-signed certificate is new
	audit   audit.Sink   // nil without audit records
	stop    func()       // stops what watch has started; nil before
}

// newPlan reads the files that the configuration names and lists every fault. old
// is the plan in force, or nil. With dry it creates nothing on disk, and the plan
// cannot be put into force.
func (d *Daemon) newPlan(cfg *config.Server, old *plan, dry bool) (*plan, config.Faults) {
	p := &plan{cfg: cfg}
	var faults config.Faults
	p.readAccess(d.passwords, &faults)
	p.readCertificate(old, d.Getenv, dry, &faults)
	p.readSite(d.log, &faults)
	p.readAudit(d.Stdout, d.Stderr, dry, &faults)
	return p, faults
}

// discard closes what the plan of a failed reload has opened.
func (p *plan) discard() {
	if p.audit != nil {
		p.audit.Close()
	}
}
