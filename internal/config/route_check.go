package config

import (
	"slices"
	"strings"

	"adit/server"
)

// checkRoutes reports faults between a route and the rest.
func (s *Server) checkRoutes(l *loader) {
	type place struct {
		host, path string
		exact      bool
	}
	seen := map[place]int{}
	for i, r := range s.Routes {
		id := itemID("route", i)
		if r.Path == "" && !l.faulty(id+".") {
			l.report(id, `add path = "/json"`, "has no path")
		}
		if len(r.Backends) == 0 && !l.faulty(id+".") {
			l.report(id, `add backend = ["127.0.0.1:9000"]`, "route %q has no backend", r.Path)
		}
		if r.Path != "" && r.Path == s.TunnelPath {
			l.report(id+".path", "choose another path for one of the two", "%q is the tunnel's own path", r.Path)
		}
		p := place{strings.ToLower(r.Host), r.Path, r.Exact}
		if first, dup := seen[p]; dup && r.Path != "" {
			l.report(id+".path", "name all backends in one route, or tell the two apart by host or exact", "route %q is defined twice: also at %s", r.Path, l.origin(itemID("route", first)+".path"))
		} else {
			seen[p] = i
		}
		s.checkRouteNames(l, id, r)
	}
}

// checkRouteNames reports users and targets of a route that do not exist.
func (s *Server) checkRouteNames(l *loader, id string, r server.Route) {
	if l.partial {
		return
	}
	users, targets := s.userNames(), s.targetNames()
	for k, name := range r.Users {
		if slices.Contains(users, name) {
			continue
		}
		add := `add [[user]] with name = "` + name + `"; adit token ` + name + " makes the token"
		l.report(itemID(id+".users", k), didYouMean(name, users, add), "route %q: there is no user %q", r.Path, name)
	}
	for k, b := range r.Backends {
		if !IsTargetName(b) || slices.Contains(targets, b) {
			continue
		}
		add := "write HOST:PORT, e.g. " + b + `:9000, or add [[target]] with name = "` + b + `"`
		l.report(itemID(id+".backend", k), didYouMean(b, targets, add), "route %q: there is no target named %q", r.Path, b)
	}
}
