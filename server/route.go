package server

import (
	"cmp"
	"fmt"
	"time"
)

// Route connects plain WebSockets at a URL path to a backend: the payload of the
// client's messages is the byte stream to the backend, and the backend's bytes
// are sent in messages. SetAccess and New check it.
type Route struct {
	// Path is the URL path, which begins with "/" and is clean: no empty, "."
	// or ".." segments and no slash at the end, but for "/" itself. It matches
	// itself and every path below it, by whole segments: "/json" matches
	// "/json/" and "/json/a", but not "/jsonx". Of several routes that match,
	// the longest path wins, then the exact one, then the one with a Host.
	// The tunnel's own path is never a route's.
	Path string
	// Exact makes Path match only itself: not even "/json/".
	Exact bool
	// Host is the host name of matching requests, without port, in any case. ""
	// is every host.
	Host string

	// Backends are HOST:PORT, unix:PATH (absolute), or the name of an entry of
	// Access.Targets; at least one, and none twice. A connection goes to the
	// backend with the fewest connections; one that refused or did not answer
	// in time is tried last for a second. Names are resolved for each
	// connection.
	Backends []string
	// FrameType is the type of the messages to the client: "binary", which is
	// the default, or "text". With "text" a code point is never split between
	// messages, and a backend whose output is not UTF-8 ends the connection
	// with code 1011. A client that asks for the subprotocol "binary" or
	// "base64" gets that instead. The client may send either type.
	FrameType string

	// Subprotocols are those that the backend speaks, such as "mqtt". Of the
	// listed ones that a client offers, the first in the list is answered; if it
	// offers none of them, "binary" or "base64" may be. Browsers close a
	// WebSocket for which they offered some and got none.
	Subprotocols []string

	// Origins are the web pages that may connect: "scheme://host[:port]", or
	// "scheme://*.domain[:port]" for every subdomain of a domain, at any depth
	// and without the domain itself. None: only pages of the host that the
	// request is for. See originList.check for the exact rules.
	Origins []string
	// Users are the names of the users who may connect. None: everybody, and
	// credentials are ignored. To everyone else the route looks like a missing
	// page.
	Users []string

	// PingInterval is how long either direction may be silent before the client
	// is sent a ping. 0 is DefaultPingInterval; less than 0 is never.
	PingInterval time.Duration
	// PongTimeout is how long the client may then remain silent before the
	// connection is closed with code 1011. A client that is merely slow to take
	// its data, or whose data the backend is slow to take, is exempt while its
	// TCP connection is known to be alive. 0 is DefaultPongTimeout; less than 0
	// is no limit.
	PongTimeout time.Duration
	// IdleTimeout is how long there may be no payload in either direction before
	// the connection is closed with code 1001. 0 is no limit.
	IdleTimeout time.Duration
	// ConnectTimeout bounds name resolution and connecting to the backends,
	// together: each backend that is tried gets an equal share of what is left.
	// 0 is DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// LingerTimeout is how long the backend may take, after the client has
	// closed, to read the rest of its data and to end its direction; what it
	// still sends is discarded. 0 is DefaultLingerTimeout.
	LingerTimeout time.Duration

	// MaxConns bounds the route's connections; a further one is answered with
	// 503. 0 is DefaultMaxRouteConns; less than 0 is no bound.
	MaxConns int
	// MaxConnsPerAddress bounds the connections of one client address (IPv6: one
	// /64), see Access.TrustedProxies. 0 is no bound.
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

// setDefaults replaces what is zero.
func (r *Route) setDefaults() {
	r.PingInterval = cmp.Or(r.PingInterval, DefaultPingInterval)
	r.PongTimeout = cmp.Or(r.PongTimeout, DefaultPongTimeout)
	r.ConnectTimeout = cmp.Or(r.ConnectTimeout, DefaultConnectTimeout)
	r.LingerTimeout = cmp.Or(r.LingerTimeout, DefaultLingerTimeout)
	r.MaxConns = cmp.Or(r.MaxConns, DefaultMaxRouteConns)
}

// RouteError is an error in one Route.
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
