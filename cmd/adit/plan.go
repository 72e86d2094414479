package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"adit/auth"
	"adit/certs"
	"adit/internal/audit"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/server"
	"adit/server/demopage"
)

// plan is a server's configuration with every file read: what can be put into
// force at once, at the start and on a reload.
type plan struct {
	cfg     *config.Server
	access  server.Access
	site    http.Handler
	source  certs.Source // nil without TLS
	tls     *tls.Config  // nil without TLS
	created bool         // the self-signed certificate is new
	audit   audit.Sink   // nil: there is none
	stop    func()       // ends what watch started; nil before
}

// newPlan reads what the configuration names and lists everything wrong with
// it. old is the plan in force, or nil. With dry nothing is created on disk,
// and the result is good for looking at only. The site complains to log.
func newPlan(cfg *config.Server, passwords *auth.PasswordLimiter, old *plan, log *slog.Logger, dry bool) (*plan, config.Faults) {
	p := &plan{cfg: cfg}
	var faults config.Faults
	p.readAccess(passwords, &faults)
	p.readCertificate(old, dry, &faults)
	p.readSite(log, &faults)
	p.readAudit(dry, &faults)
	return p, faults
}

func (p *plan) readAccess(passwords *auth.PasswordLimiter, faults *config.Faults) {
	cfg := p.cfg
	users, err := auth.NewUsers(cfg.Users, auth.WithPasswordLimiter(passwords))
	for _, e := range unjoin(err) {
		faults.Add(userOrigin(cfg, e), e)
	}
	for i, rule := range cfg.AllowAnonymous {
		if _, err := auth.ParseRule(rule); err != nil {
			faults.Add(cfg.Origin(indexed("allow-anonymous", i)), err)
		}
	}
	targets := map[string]string{}
	for _, t := range cfg.Targets {
		targets[t.Name] = t.Address.String()
	}
	p.access = server.Access{Users: users, Targets: targets, Anonymous: cfg.AllowAnonymous, Routes: cfg.Routes, MaxStreams: cfg.MaxStreams, TrustedProxies: cfg.TrustedProxies}
}

// userOrigin finds the place of what auth says is wrong with a user.
func userOrigin(cfg *config.Server, err error) string {
	var fault *auth.UserError
	if !errors.As(err, &fault) {
		return "user"
	}
	key := indexed("user", fault.Index) + "." + fault.Field
	var rule *auth.RuleError
	if errors.As(err, &rule) {
		for i, r := range cfg.Users[fault.Index].Allow {
			if r == rule.Rule {
				return cfg.Origin(indexed(key, i))
			}
		}
	}
	return cfg.Origin(key)
}

func (p *plan) readCertificate(old *plan, dry bool, faults *config.Faults) {
	t := p.cfg.TLS
	var pool *x509.CertPool
	if t.ClientCA != "" {
		var err error
		if pool, err = certs.LoadPool(t.ClientCA); err != nil {
			faults.Add(p.cfg.Origin("tls.client-ca"), err)
		}
	}
	var err error
	origin := ""
	switch {
	case old.serves(t):
		// With what it has under way, and also when its certificate has expired.
		p.source, p.stop = old.source, old.stop
	case t.Cert != "" && t.Key != "":
		origin = "tls.cert"
		p.source, err = certs.Files(t.Cert, t.Key)
		var fault *certs.Error
		if errors.As(err, &fault) && fault.File == t.Key {
			origin = "tls.key"
		}
	case t.SelfSigned != "" && exists(t.SelfSigned) && !isDir(t.SelfSigned):
		origin, err = "tls.self-signed", hint.Errorf("name a directory, which need not be there yet, e.g. /var/lib/adit/tls", "%s is not a directory", t.SelfSigned)
	case t.SelfSigned != "" && (!dry || exists(filepath.Join(t.SelfSigned, "cert.pem"))):
		origin = "tls.self-signed"
		p.source, p.created, err = certs.SelfSigned(t.SelfSigned, nil)
	case len(t.ACMEDomains) > 0 && !dry:
		origin = "tls.acme-domains"
		cache := t.ACMECache
		if cache == "" {
			cache = filepath.Join(stateDir(), "acme")
		}
		p.source, err = certs.ACME(certs.ACMEOptions{
			Domains: t.ACMEDomains, CacheDir: cache, Email: t.ACMEEmail,
			DirectoryURL: t.ACMEDirectory, RootCAFile: t.ACMECA,
		})
	}
	if err != nil {
		faults.Add(p.cfg.Origin(origin), err)
		return
	}
	if p.source != nil {
		p.tls = certs.ServerConfig(p.source, pool)
	}
}

// serves reports whether the plan's certificates are those that t asks for, so
// that its source can go on.
func (p *plan) serves(t config.ServerTLS) bool {
	if p == nil {
		return false
	}
	was := p.cfg.TLS
	switch source := p.source.(type) {
	case *certs.FileSource:
		return was.Cert == t.Cert && was.Key == t.Key && was.SelfSigned == t.SelfSigned && source.Current()
	case *certs.ACMESource:
		return reflect.DeepEqual(was, t)
	}
	return false
}

func (p *plan) readAudit(dry bool, faults *config.Faults) {
	if p.cfg.Audit == "" {
		return
	}
	var err error
	if p.audit, err = openAudit(p.cfg.Audit, dry); err != nil {
		faults.Add(p.cfg.Origin("audit"), err)
	}
}

// discard gives back what the plan of a refused reload has opened.
func (p *plan) discard() {
	if p.audit != nil {
		p.audit.Close()
	}
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// stateDir is where a server keeps what it must not lose: systemd's choice, or
// the usual places.
func stateDir() string {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	const system = "/var/lib/adit" // a container's, too, whose user is not root
	if os.Geteuid() == 0 || exists(system) {
		return system
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "adit")
	}
	return filepath.Join(os.Getenv("HOME"), ".local", "state", "adit")
}

func (p *plan) readSite(log *slog.Logger, faults *config.Faults) {
	p.site = server.DefaultSite()
	switch {
	case p.cfg.SiteRoot != "":
		site, err := server.DirSite(p.cfg.SiteRoot)
		if err != nil {
			faults.Add(p.cfg.Origin("site.root"), hint.File(err, "name a directory that adit can read, e.g. /var/www/html"))
			return
		}
		p.site = site
	case p.cfg.SiteProxy != "":
		site, err := server.ProxySite(p.cfg.SiteProxy, server.ProxyOptions{TrustedProxies: p.cfg.TrustedProxies, Logger: log})
		if err != nil {
			faults.Add(p.siteProxyOrigin(), hint.With(err, "write http://127.0.0.1:8080, https://intranet.lan, or unix:/run/site.sock"))
			return
		}
		p.site = site
	}
	if p.cfg.DemoPage != "" {
		p.site = demopage.Handler(p.cfg.DemoPage, shownRoutes(p.cfg.Routes), p.site)
	}
}

// siteProxyOrigin is where the site's URL came from: --site takes it, too.
func (p *plan) siteProxyOrigin() string {
	if o := p.cfg.Origin("site.root"); o != "site.root" {
		return o
	}
	return p.cfg.Origin("site.proxy")
}

// watch keeps the certificate fresh in the background until p.stop, which
// waits for it, and calls renewed when there is another.
func (p *plan) watch(ctx context.Context, log *slog.Logger, renewed func()) {
	if source, ok := p.source.(*certs.FileSource); ok {
		for _, w := range source.Warnings() {
			log.Warn(w)
		}
	}
	if p.stop != nil {
		return // taken over from the plan before, still running
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	p.stop = func() { cancel(); <-done }
	switch source := p.source.(type) {
	case *certs.FileSource:
		go func() {
			defer close(done)
			source.Run(ctx, 0, func(reloaded bool, err error) {
				if err != nil {
					log.Error("the new certificate cannot be used, the old one stays", hint.Attrs(err)...)
				} else if reloaded {
					log.Info("certificate loaded again", "expires", source.Expiry())
					renewed()
				}
			})
		}()
	case *certs.ACMESource:
		go func() {
			defer close(done)
			source.Run(ctx, func(domain string, err error) {
				if err != nil {
					log.Error("no new certificate for "+domain, hint.Attrs(err)...)
				} else {
					log.Info("certificate obtained", "domain", domain)
					renewed()
				}
			})
		}()
	default:
		close(done)
	}
}

// unjoin returns the errors inside an errors.Join, or err alone.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
