package main

import (
	"errors"
	"fmt"
	"slices"

	"adit/internal/config"
	"adit/server"
)

// routes are the configuration's, as the server takes them.
func routes(cfg *config.Server) []server.Route {
	var all []server.Route
	for _, r := range cfg.Routes {
		var backends []string
		for _, b := range r.Backends {
			backends = append(backends, b.String())
		}
		all = append(all, server.Route{
			Path: r.Path, Exact: r.Exact, Host: r.Host,
			Backends: backends, FrameType: r.FrameType,
			Origins: r.Origins, Users: r.Users,
			PingInterval: r.PingInterval, PongTimeout: r.PongTimeout,
			IdleTimeout: r.IdleTimeout, ConnectTimeout: r.ConnectTimeout, LingerTimeout: r.LingerTimeout,
			MaxConns: r.MaxConns, MaxConnsPerAddress: r.MaxConnsPerAddress,
			ProxyProtocol: r.ProxyProtocol,
		})
	}
	return all
}

// shownRoutes are the paths that a public page may name: those that everybody
// may use.
func shownRoutes(all []config.Route) []string {
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
		key := indexed("route", fault.Index) + "." + routeKeys[fault.Field]
		faults.Add(cfg.Origin(key), &hinted{fmt.Errorf("route %q: %w", fault.Path, fault.Err), "adit help server shows routes"})
	}
	return faults
}

// routeKeys are the configuration's names of the fields of a server.Route.
var routeKeys = map[string]string{
	"Path": "path", "Exact": "exact", "Host": "host", "Backends": "backend", "FrameType": "frame-type",
	"Origins": "origins", "Users": "users", "PingInterval": "ping-interval", "PongTimeout": "pong-timeout",
	"IdleTimeout": "idle-timeout", "ConnectTimeout": "connect-timeout", "LingerTimeout": "linger-timeout",
	"MaxConns": "max-conns", "MaxConnsPerAddress": "max-conns-per-address", "ProxyProtocol": "proxy-protocol",
}
