package server

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"adit/auth"
)

// Route makes plain WebSockets at a URL path reach a backend: the payload of
// the client's messages is the byte stream to the backend, and what the
// backend sends comes in messages. It is a plain value; SetAccess and New
// check it.
type Route struct {
	// Path is the URL path, which begins with "/" and is clean: no empty, "."
	// or ".." segments and no slash at the end, but for "/" itself. It stands
	// for itself and all below it, by whole segments: "/json" is also
	// "/json/" and "/json/a", but not "/jsonx". Of several routes that match,
	// the longest path wins, then the exact one, then the one with a Host.
	// The tunnel's own path is never a route's.
	Path string
	// Exact makes Path stand for itself alone: not even "/json/".
	Exact bool
	// Host is the host name of the requests that match, without port, in any
	// case. "" is every host.
	Host string

	// Backends are HOST:PORT, unix:PATH (absolute), or the name of an entry of
	// Access.Targets; at least one, and none twice. A connection goes to the
	// one with the fewest connections; one that refused or did not answer in
	// time is tried last for a second. Names are resolved for each connection.
	Backends []string
	// FrameType is the type of the messages to the client: "binary", which is
	// the default, or "text". With "text" a code point is never split between
	// messages, and a backend whose output is not UTF-8 ends the connection
	// with code 1011. A client that asks for the subprotocol "binary" or
	// "base64" gets that instead. Both types are accepted from the client.
	FrameType string

	// Origins are the web pages that may connect: "scheme://host[:port]", or
	// "scheme://*.domain[:port]" for every subdomain of a domain, at any depth
	// and without the domain itself. None: only pages of the host that the
	// request is for. See originAllowed for the exact rules.
	Origins []string
	// Users are the names of the users who may connect. None: everybody, and
	// credentials are not looked at. To all others the route looks like a page
	// that is missing.
	Users []string

	// PingInterval is how long the client may send nothing before it is sent a
	// ping. 0 is 20 s; less than 0 is never.
	PingInterval time.Duration
	// PongTimeout is how long the client may then go on sending nothing: after
	// it the connection is closed with code 1011. A client that is merely slow
	// to take its data, or whose data the backend is slow to take, is not
	// held to it while its TCP shows that it is there. 0 is 20 s; less than 0
	// is for ever.
	PongTimeout time.Duration
	// IdleTimeout is how long there may be no payload in either direction; then
	// the connection is closed with code 1001. 0 is for ever.
	IdleTimeout time.Duration
	// ConnectTimeout bounds name resolution and connecting to the backends,
	// together: each that is tried has an even share of what is left of it.
	// 0 is 8 s.
	ConnectTimeout time.Duration
	// LingerTimeout is how long, when the client has closed, the backend may
	// take to read the rest of its data and to end its side; what it still
	// sends is discarded. 0 is 10 s.
	LingerTimeout time.Duration

	// MaxConns bounds the route's connections; one more is answered with 503.
	// 0 is 16384; less than 0 is no bound.
	MaxConns int
	// MaxConnsPerAddress bounds those of one client address (IPv6: one /64),
	// see Access.TrustedProxies. 0 is no bound.
	MaxConnsPerAddress int

	// ProxyProtocol sends the client's address to the backend ahead of the
	// data: "off", which is the default, "v1" or "v2" of the PROXY protocol.
	ProxyProtocol string
}

// Defaults of Route.
const (
	DefaultPingInterval   = 20 * time.Second
	DefaultPongTimeout    = 20 * time.Second
	DefaultConnectTimeout = 8 * time.Second
	DefaultLingerTimeout  = 10 * time.Second
	DefaultMaxRouteConns  = 16384
)

// RouteError is a fault in one Route.
type RouteError struct {
	Index int    // position in Access.Routes, from 0
	Path  string // the route's path, may be empty
	Field string // the field, by its key in the configuration: "ping-interval"
	Err   error
}

func (e *RouteError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("route number %d: %s: %v", e.Index+1, e.Field, e.Err)
	}
	return fmt.Sprintf("route %q: %s: %v", e.Path, e.Field, e.Err)
}

// Unwrap returns the cause.
func (e *RouteError) Unwrap() error { return e.Err }

// route is a Route that has been checked, with its defaults in place.
type route struct {
	Route
	id       routeID
	text     bool
	origins  []originPattern
	users    map[string]bool // nil: everybody
	pool     *pool
	places   *places
	counters *routeCounters
}

// routeID is what makes a route the same one before and after a SetAccess. It
// is also what a ticket is made for.
type routeID struct {
	host, path string
	exact      bool
}

func (id routeID) String() string { return id.host + id.path }

// routeTable finds a route. Its order is the order of preference.
type routeTable []*route

// newRouteTable checks the routes. The error joins every fault, each a
// *RouteError. Routes that were in old keep their counts.
func newRouteTable(list []Route, a Access, tunnelPath string, old routeTable) (routeTable, error) {
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
			fault("path", errors.New("is there twice"))
		}
		seen[r.id] = true
		if def.Host != "" && !isHostName(r.Host) {
			fault("host", fmt.Errorf("%q is not a host name without port", def.Host))
		}
		switch def.FrameType {
		case "", "binary":
		case "text":
			r.text = true
		default:
			fault("frame-type", fmt.Errorf("%q is neither binary nor text", def.FrameType))
		}
		switch def.ProxyProtocol {
		case "", "off", "v1", "v2":
		default:
			fault("proxy-protocol", fmt.Errorf("%q is none of off, v1 and v2", def.ProxyProtocol))
		}
		for _, text := range def.Origins {
			p, err := parseOriginPattern(text)
			if err != nil {
				fault("origins", err)
			}
			r.origins = append(r.origins, p)
		}
		for _, name := range def.Users {
			if a.Users.Lookup(name) == nil {
				fault("users", fmt.Errorf("there is no user %q", name))
			}
			if r.users == nil {
				r.users = make(map[string]bool)
			}
			r.users[name] = true
		}
		for _, d := range []struct {
			field string
			value time.Duration
		}{{"idle-timeout", def.IdleTimeout}, {"connect-timeout", def.ConnectTimeout}, {"linger-timeout", def.LingerTimeout}} {
			if d.value < 0 {
				fault(d.field, fmt.Errorf("%v is negative", d.value))
			}
		}
		if def.MaxConnsPerAddress < 0 {
			fault("max-conns-per-address", fmt.Errorf("%d is negative", def.MaxConnsPerAddress))
		}
		orDefault(&r.PingInterval, DefaultPingInterval)
		orDefault(&r.PongTimeout, DefaultPongTimeout)
		orDefault(&r.ConnectTimeout, DefaultConnectTimeout)
		orDefault(&r.LingerTimeout, DefaultLingerTimeout)
		orDefault(&r.MaxConns, DefaultMaxRouteConns)

		var oldPool *pool
		r.places, r.counters = &places{}, newRouteCounters()
		if before := old.find(r.id); before != nil {
			oldPool, r.places, r.counters = before.pool, before.places, before.counters
		}
		pool, errs := newPool(def.Backends, a.Targets, oldPool)
		for _, err := range errs {
			fault("backend", err)
		}
		r.pool = pool
		table = append(table, r)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	slices.SortStableFunc(table, func(x, y *route) int {
		return cmp.Or(
			cmp.Compare(len(y.Path), len(x.Path)),
			-compareBool(x.Exact, y.Exact),
			-compareBool(x.Host != "", y.Host != ""),
		)
	})
	return table, nil
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
// there is none. A path that is not clean, which proxies in front may read in
// another way, has none.
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

func (r *route) matches(urlPath string) bool {
	if r.Exact {
		return urlPath == r.Path
	}
	rest, ok := strings.CutPrefix(urlPath, strings.TrimSuffix(r.Path, "/"))
	return ok && (rest == "" || rest[0] == '/')
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
	return nil
}

// isCleanPath reports whether p is "" or a clean path that does not end with a
// slash.
func isCleanPath(p string) bool {
	return p == "" || p != "/" && p[0] == '/' && path.Clean(p) == p
}

// hostName is the host of a Host header, without port, in lower case and
// without the dot at the end that a name may have. It is "" for a malformed
// one.
func hostName(hostport string) string {
	host, _ := splitHostPort(hostport)
	return foldHost(host)
}

func foldHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// splitHostPort splits HOST or HOST:PORT, with IPv6 in brackets, which it
// removes. Both are "" when hostport is malformed.
func splitHostPort(hostport string) (host, port string) {
	if strings.HasPrefix(hostport, "[") && strings.HasSuffix(hostport, "]") {
		return hostport[1 : len(hostport)-1], ""
	}
	if !strings.Contains(hostport, ":") {
		return hostport, ""
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", ""
	}
	return host, port
}

// isHostName reports whether s can be the host of a URL: a name or an IP
// address, without brackets.
func isHostName(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\?#@[]<>^|%*"{}`+"`", r)
	}) && (!strings.Contains(s, ":") || net.ParseIP(s) != nil)
}

// admits reports whether a user may use the route.
func (r *route) admits(identity *auth.Identity) bool {
	return r.users == nil || identity != nil && identity.Name != "" && r.users[identity.Name]
}

// targetNames are for a message.
func targetNames(targets map[string]string) []string {
	return slices.Sorted(maps.Keys(targets))
}
