package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"adit/auth"
	"adit/internal/dialout"
)

// Access says who may reach what. It can be replaced while the server runs.
type Access struct {
	// Users are those who can authenticate. Nil: nobody.
	Users *auth.Users
	// Targets are the named targets: HOST:PORT or unix:PATH by name.
	Targets map[string]string
	// Anonymous are rules, as in auth.ParsePolicy, for what clients without
	// credentials may reach. None: such clients get no session.
	Anonymous []string
	// Routes are the paths at which plain WebSockets reach backends. A server
	// that has routes needs neither users nor anonymous access. Connections of
	// a route that was removed or changed continue unchanged while their users
	// may use the server.
	Routes []Route

	// MaxStreams bounds the streams of each session that starts from now on. 0
	// is DefaultMaxStreams.
	MaxStreams int
	// TrustedProxies are the addresses of proxies in front, whose
	// X-Forwarded-For or Forwarded names the client: for the log, the limits of
	// addresses, and the PROXY protocol to backends. If there are any, peers on
	// unix sockets are trusted, too. None: such headers are ignored.
	TrustedProxies []netip.Prefix
}

// ErrOpen refuses an Access that admits nobody: no users, no anonymous access
// and no routes. An empty Access must not mean a server open to everybody.
var ErrOpen = errors.New("no users are configured")

// access is an Access that has been checked. It is immutable.
type access struct {
	users     *auth.Users
	targets   map[string]dialout.Address
	anonymous *auth.Identity // nil: none
	routes    routeTable

	maxStreams     int
	trustedProxies trustedProxies
}

// newAccess checks an Access. Routes that are in before, which may be nil, keep
// their counts and limits.
func newAccess(a Access, tunnelPath string, before routeTable) (*access, error) {
	next := &access{
		users: a.Users, targets: make(map[string]dialout.Address, len(a.Targets)),
		maxStreams: cmp.Or(a.MaxStreams, DefaultMaxStreams), trustedProxies: slices.Clone(a.TrustedProxies),
	}
	for name, text := range a.Targets {
		to, err := dialout.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("target %q: %w", name, err)
		}
		next.targets[name] = to
	}
	if len(a.Anonymous) > 0 {
		policy, err := auth.ParsePolicy(a.Anonymous)
		if err != nil {
			return nil, fmt.Errorf("anonymous access: %w", err)
		}
		next.anonymous = &auth.Identity{Policy: policy}
	}
	if a.Users.Len() == 0 && next.anonymous == nil && len(a.Routes) == 0 {
		return nil, ErrOpen
	}
	var err error
	if next.routes, err = newRouteTable(a.Routes, a.Users, next.targets, tunnelPath, before); err != nil {
		return nil, err
	}
	return next, nil
}
