package main

import (
	"errors"
	"slices"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/server"
)

// shownRoutes are the paths that a public page may name: those that everybody
// may use.
func shownRoutes(all []server.Route) []string {
	var paths []string
	for _, r := range all {
		if len(r.Users) == 0 && !slices.Contains(paths, r.Path) {
			paths = append(paths, r.Path)
		}
	}
	return paths
}

// checkRoutes asks the server what it thinks of the plan's routes.
func (p *plan) checkRoutes() config.Faults {
	if len(p.access.Routes) == 0 {
		return nil
	}
	_, err := server.New(server.Config{TunnelPath: p.cfg.TunnelPath}, p.access)
	return accessFaults(p.cfg, err)
}

// accessFaults puts what the server says is wrong with the access where it
// came from.
func accessFaults(cfg *config.Server, err error) config.Faults {
	var faults config.Faults
	for _, e := range unjoin(err) {
		var fault *server.RouteError
		if !errors.As(e, &fault) {
			faults.Add("configuration", e)
			continue
		}
		key := indexed("route", fault.Index) + "." + fault.Field
		faults.Add(cfg.Origin(key), hint.Errorf("adit help server shows routes", "route %q: %w", fault.Path, fault.Err))
	}
	return faults
}
