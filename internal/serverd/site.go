package serverd

import (
	"log/slog"
	"net/http"
	"slices"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/server"
	"adit/server/demopage"
)

// openSite returns the site, with the demo page if there is one. A site behind
// another server logs its failures to log.
func openSite(cfg *config.Server, log *slog.Logger, faults *config.Faults) http.Handler {
	site := server.DefaultSite()
	var err error
	switch {
	case cfg.SiteRoot != "":
		if site, err = server.DirSite(cfg.SiteRoot); err != nil {
			faults.Add(cfg.Origin("site.root"), hint.File(err, "name a directory that adit can read, e.g. /var/www/html"))
			return nil
		}
	case cfg.SiteProxy != "":
		if site, err = server.ProxySite(cfg.SiteProxy, server.ProxyOptions{TrustedProxies: cfg.TrustedProxies, Logger: log}); err != nil {
			faults.Add(siteProxyOrigin(cfg), hint.With(err, "write http://127.0.0.1:8080, https://intranet.lan, or unix:/run/site.sock"))
			return nil
		}
	}
	if cfg.DemoPage != "" {
		site = demopage.Handler(cfg.DemoPage, shownRoutes(cfg.Routes), site)
	}
	return site
}

// siteProxyOrigin returns the place of the site's URL, which --site also accepts.
func siteProxyOrigin(cfg *config.Server) string {
	if o := cfg.Origin("site.root"); o != "site.root" {
		return o
	}
	return cfg.Origin("site.proxy")
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
