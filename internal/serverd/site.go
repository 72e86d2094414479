package serverd

import (
	"log/slog"
	"slices"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/server"
	"adit/server/demopage"
)

// readSite prepares the site, with the demo page if there is one. A site behind
// another server logs its failures to log.
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

// siteProxyOrigin returns the place of the site's URL, which --site also accepts.
func (p *plan) siteProxyOrigin() string {
	if o := p.cfg.Origin("site.root"); o != "site.root" {
		return o
	}
	return p.cfg.Origin("site.proxy")
}

// shownRoutes returns the paths that the public demo page may name: those of routes
// that are open to everyone.
func shownRoutes(all []server.Route) []string {
	var paths []string
	for _, r := range all {
		if len(r.Users) == 0 && !slices.Contains(paths, r.Path) {
			paths = append(paths, r.Path)
		}
	}
	return paths
}
