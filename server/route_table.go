package server

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"adit/auth"
	"adit/internal/dialout"
)

// route is a Route that has been checked, with its defaults in place.
type route struct {
	Route
	id      routeID
	text    bool
	origins originList
	users   map[string]bool // nil: everybody

	// These outlive a SetAccess that keeps the route.
	pool     *pool
	limit    *routeLimit
	counters *routeCounters
}

// routeID identifies a route across calls of SetAccess, and in tickets.
type routeID struct {
	host, path string
	exact      bool
}

func (id routeID) String() string { return id.host + id.path }

// matches reports whether the route is for a URL path.
func (r *route) matches(urlPath string) bool {
	if r.Exact {
		return urlPath == r.Path
	}
	rest, ok := strings.CutPrefix(urlPath, strings.TrimSuffix(r.Path, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// admits reports whether a user may use the route.
func (r *route) admits(identity *auth.Identity) bool {
	return r.users == nil || identity != nil && identity.Name != "" && r.users[identity.Name]
}

// routeTable finds the route of a request. The routes are in order of preference.
type routeTable []*route

// newRouteTable checks the routes. The error joins all faults, each a
// *RouteError. Routes that are in old keep their counts and limits.
func newRouteTable(list []Route, users *auth.Users, targets map[string]dialout.Address, tunnelPath string, old routeTable) (routeTable, error) {
	var table routeTable
	var faults []error
	seen := make(map[routeID]bool)
	for i, def := range list {
		r := &route{Route: def}
		fault := func(field string, err error) {
			faults = append(faults, &RouteError{Index: i, Path: def.Path, Field: field, Err: err})
		}
		r.Host = foldHost(def.Host)
		r.id = routeID{r.Host, def.Path, def.Exact}
		switch err := checkRoutePath(def.Path); {
		case err != nil:
			fault("path", err)
		case def.Path == tunnelPath:
			fault("path", errors.New("is the tunnel's own path"))
		case seen[r.id]:
			fault("path", errors.New("appears twice"))
		}
		seen[r.id] = true
		r.checkValues(fault)
		r.checkUsers(users, fault)
		r.setDefaults()

		var oldPool *pool
		r.limit, r.counters = &routeLimit{}, newRouteCounters()
		if before := old.find(r.id); before != nil {
			oldPool, r.limit, r.counters = before.pool, before.limit, before.counters
		}
		var errs []error
		r.pool, errs = newPool(def.Backends, targets, oldPool)
		for _, err := range errs {
			fault("backend", err)
		}
		table = append(table, r)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	slices.SortStableFunc(table, (*route).compare)
	return table, nil
}

// checkValues checks the values that depend on nothing else.
func (r *route) checkValues(fault func(field string, err error)) {
	if r.Host != "" && !isHostName(r.Host) {
		fault("host", fmt.Errorf("%q is not a host name without port", r.Host))
	}
	switch r.FrameType {
	case "", "binary":
	case "text":
		r.text = true
	default:
		fault("frame-type", fmt.Errorf("%q is neither binary nor text", r.FrameType))
	}
	switch r.ProxyProtocol {
	case "", "off", "v1", "v2":
	default:
		fault("proxy-protocol", fmt.Errorf("%q is none of off, v1 and v2", r.ProxyProtocol))
	}
	for i, p := range r.Subprotocols {
		switch {
		case !httpguts.ValidHeaderFieldName(p): // tests for a token, which a subprotocol is
			fault("subprotocols", fmt.Errorf("%q is not a subprotocol: it has characters that separate several", p))
		case isTokenSubprotocol(p):
			fault("subprotocols", fmt.Errorf("%q… is how clients send a token, which is never answered", tokenSubprotocol))
		case slices.Contains(r.Subprotocols[:i], p):
			fault("subprotocols", fmt.Errorf("%q appears twice", p))
		}
	}
	for _, text := range r.Origins {
		p, err := parseOriginPattern(text)
		if err != nil {
			fault("origins", err)
		}
		r.origins = append(r.origins, p)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"idle-timeout", r.IdleTimeout}, {"connect-timeout", r.ConnectTimeout}, {"linger-timeout", r.LingerTimeout}} {
		if d.value < 0 {
			fault(d.field, fmt.Errorf("%v is negative", d.value))
		}
	}
	if r.MaxConnsPerAddress < 0 {
		fault("max-conns-per-address", fmt.Errorf("%d is negative", r.MaxConnsPerAddress))
	}
}

func (r *route) checkUsers(users *auth.Users, fault func(field string, err error)) {
	for _, name := range r.Users {
		if users.Lookup(name) == nil {
			fault("users", fmt.Errorf("there is no user %q", name))
		}
		if r.users == nil {
			r.users = make(map[string]bool)
		}
		r.users[name] = true
	}
}

// compare orders by preference: the longer path, the exact one, the one with a
// host.
func (r *route) compare(other *route) int {
	return cmp.Or(
		cmp.Compare(len(other.Path), len(r.Path)),
		-compareBool(r.Exact, other.Exact),
		-compareBool(r.Host != "", other.Host != ""),
	)
}

// compareBool orders false before true.
func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

func (t routeTable) find(id routeID) *route {
	for _, r := range t {
		if r.id == id {
			return r
		}
	}
	return nil
}

// lookup finds the route for a request's Host header and URL path; nil when
// there is none. There is none for a path that is not clean, which a proxy in
// front may interpret differently.
func (t routeTable) lookup(host, urlPath string) *route {
	if len(t) == 0 || !isCleanPath(strings.TrimSuffix(urlPath, "/")) {
		return nil
	}
	name := hostName(host)
	for _, r := range t {
		if r.matches(urlPath) && (r.Host == "" || r.Host == name) {
			return r
		}
	}
	return nil
}

func checkRoutePath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("%q does not begin with a slash", p)
	case p != "/" && !isCleanPath(p):
		return fmt.Errorf("%q is not clean: it has an empty, %q or %q segment, or ends with a slash", p, ".", "..")
	case strings.ContainsAny(p, "?#"):
		return fmt.Errorf("%q has a query or fragment", p)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q has a control character", p)
	}
	if fixed, pattern := PathPattern(p); pattern != "" {
		return fmt.Errorf("%q has %q, which is taken literally: write %q, which is for everything below it", p, pattern, fixed)
	}
	return nil
}

// PathPattern returns the first segment of a URL path that other servers take for
// a pattern, such as "*", "{id}" or ":id", and the path before it. pattern is ""
// if there is none.
func PathPattern(p string) (before, pattern string) {
	at := 0
	for segment := range strings.SplitSeq(p, "/") {
		if strings.ContainsAny(segment, "*{}") || strings.HasPrefix(segment, ":") {
			return cmp.Or(strings.TrimSuffix(p[:at], "/"), "/"), segment
		}
		at += len(segment) + 1
	}
	return p, ""
}

// isCleanPath reports whether p is "" or a clean path that does not end with a
// slash.
func isCleanPath(p string) bool {
	return p == "" || p != "/" && p[0] == '/' && path.Clean(p) == p
}
