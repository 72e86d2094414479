package config

import (
	"slices"
	"strings"

	"adit/server"
)

// checkRoutes finds what is wrong between a route and the rest.
func (s *Server) checkRoutes(l *loader) {
	type place struct {
		host, path string
		exact      bool
	}
	seen := map[place]int{}
	for i, r := range s.Routes {
		id := itemID("route", i)
		if r.Path == "" && !l.faulty(id+".") {
			l.faults.Add(l.origin(id), bad(`add path = "/json"`, "has no path"))
		}
		if len(r.Backends) == 0 && !l.faulty(id+".") {
			l.faults.Add(l.origin(id), bad(`add backend = ["127.0.0.1:9000"]`, "route %q has no backend", r.Path))
		}
		if r.Path != "" && r.Path == s.TunnelPath {
			l.faults.Add(l.origin(id+".path"), bad("choose another path for one of the two", "%q is the tunnel's own path", r.Path))
		}
		p := place{strings.ToLower(r.Host), r.Path, r.Exact}
		if first, dup := seen[p]; dup && r.Path != "" {
			l.faults.Add(l.origin(id+".path"), bad("name all backends in one route, or tell the two apart by host or exact", "route %q is there twice: also at %s", r.Path, l.origin(itemID("route", first)+".path")))
		} else {
			seen[p] = i
		}
		s.checkRouteNames(l, id, r)
	}
}

// checkRouteNames finds the users and targets of a route that do not exist.
func (s *Server) checkRouteNames(l *loader, id string, r server.Route) {
	if l.partial {
		return
	}
	var users, targets []string
	for _, u := range s.Users {
		users = append(users, u.Name)
	}
	for _, t := range s.Targets {
		targets = append(targets, t.Name)
	}
	for k, name := range r.Users {
		if slices.Contains(users, name) {
			continue
		}
		hint := `add [[user]] with name = "` + name + `"; adit token ` + name + " makes the token"
		if m := Nearest(name, users); m != "" {
			hint = "did you mean " + m + "?"
		}
		l.faults.Add(l.origin(itemID(id+".users", k)), bad(hint, "route %q: there is no user %q", r.Path, name))
	}
	for k, b := range r.Backends {
		if !IsTargetName(b) || slices.Contains(targets, b) {
			continue
		}
		hint := `write HOST:PORT, e.g. ` + b + `:9000, or add [[target]] with name = "` + b + `"`
		if m := Nearest(b, targets); m != "" {
			hint = "did you mean " + m + "?"
		}
		l.faults.Add(l.origin(itemID(id+".backend", k)), bad(hint, "route %q: there is no target named %q", r.Path, b))
	}
}
