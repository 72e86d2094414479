package server

import (
	"cmp"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"time"

	"adit/internal/audit"
	"adit/mux"
)

// Defaults of Config and Access that the configuration's reference shows.
const (
	DefaultTunnelPath         = "/tunnel"
	DefaultMaxSessionsPerUser = 64
	DefaultMaxStreams         = 4096
)

// Config is what cannot change while a server runs. The zero value is useful.
type Config struct {
	// TunnelPath is the URL path of the tunnel endpoint. "" is
	// DefaultTunnelPath.
	TunnelPath string
	// CertNames returns the names by which Access.Users may know the owner of a
	// verified client certificate. Nil: certificates identify nobody.
	CertNames func(*x509.Certificate) []string
	// Site answers every request that is neither for the tunnel nor for a
	// route. Default: DefaultSite.
	Site http.Handler

	// MaxSessionsPerUser bounds the sessions of each user without a bound of
	// their own, and of all anonymous clients together. 0 is
	// DefaultMaxSessionsPerUser.
	MaxSessionsPerUser int
	// MaxConnsPerAddress bounds the unauthenticated connections of one client
	// address (IPv6: one /64). A further one replaces the oldest. The bound does
	// not apply to Access.TrustedProxies, which are many clients. Default 256.
	MaxConnsPerAddress int
	// MaxConns bounds all unauthenticated connections in the same way. Default
	// 4096.
	MaxConns int

	// HandshakeTimeout bounds the TLS handshake and, after it, the header of
	// each request. Default 10 s.
	HandshakeTimeout time.Duration
	// RequestTimeout bounds the reading of a whole request, unless Site has
	// another bound, as ProxySite does. Default 1 min.
	RequestTimeout time.Duration
	// IdleTimeout is how long a connection may wait between requests.
	// Default 1 min.
	IdleTimeout time.Duration
	// LastRequestTimeout is how long Shutdown waits for the first request of
	// accepted connections, and for streams that clients open before they learn
	// that the server is going away. Default 1 s.
	LastRequestTimeout time.Duration
	// DialTimeout bounds name resolution and connecting to a target, together.
	// Default 10 s.
	DialTimeout time.Duration

	// MaxConnectionAge is the age at which the client is asked to migrate a
	// session to a new connection, up to a tenth earlier. 0: no limit.
	MaxConnectionAge time.Duration
	// ResumeMemory bounds the memory of detached sessions, in bytes; see
	// mux.SessionStore. Mux.ResumeTimeout bounds how long they are kept. Default
	// 256 MiB.
	ResumeMemory int64

	// StreamMemory bounds the unread data that all connected sessions may have to
	// hold, by the credit that they have granted, in bytes, and UserStreamMemory
	// that of one user's sessions, or of all anonymous clients. A stream for which
	// there is no initial credit left is refused as busy. Defaults 4 GiB and 1 GiB.
	StreamMemory, UserStreamMemory int64

	// TicketLifetime is how long a ticket for a route is valid, in whole
	// seconds. A route's users get tickets at its path + "/.ticket", and a web
	// page opens the route with ?ticket=TICKET. Default 1 min.
	TicketLifetime time.Duration

	// Mux has the limits of sessions. Its MaxStreams and Logger are ignored:
	// Access.MaxStreams and Logger below are used.
	Mux mux.Config
	// Resolver resolves the names of targets and backends. Default:
	// net.DefaultResolver.
	Resolver *net.Resolver
	// Logger gets one line for each event that an operator can act on. Default:
	// discarded.
	Logger *slog.Logger
	// Audit gets a record of each stream and each route connection when it has
	// ended or been refused. It must not block. Nil: no records.
	Audit func(audit.Record)
}

// setDefaults replaces what is zero.
func (c *Config) setDefaults() {
	c.TunnelPath = cmp.Or(c.TunnelPath, DefaultTunnelPath)
	c.MaxSessionsPerUser = cmp.Or(c.MaxSessionsPerUser, DefaultMaxSessionsPerUser)
	c.MaxConnsPerAddress = cmp.Or(c.MaxConnsPerAddress, 256)
	c.MaxConns = cmp.Or(c.MaxConns, 4096)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	c.LastRequestTimeout = cmp.Or(c.LastRequestTimeout, time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 10*time.Second)
	c.StreamMemory = cmp.Or(c.StreamMemory, 4<<30)
	c.UserStreamMemory = cmp.Or(c.UserStreamMemory, 1<<30)
	c.TicketLifetime = cmp.Or(c.TicketLifetime, time.Minute)
	c.Mux.Silence = cmp.Or(c.Mux.Silence, 45*time.Second)
	if c.Site == nil {
		c.Site = DefaultSite()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Mux.Logger = c.Logger
}
