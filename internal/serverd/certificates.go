package serverd

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"adit/admin"
	"adit/certs"
	"adit/server"
)

// certificates are the TLS configuration and the certificates in force.
type certificates struct {
	log    *slog.Logger
	server *server.Server

	tls    atomic.Pointer[tls.Config]   // nil without TLS
	source atomic.Pointer[certs.Source] // its value is nil without TLS

	// Guarded by mu.
	mu       sync.Mutex
	migrated []*x509.Certificate // in force when the clients were last asked to migrate
}

// use puts a TLS configuration and its source of certificates into force. Both are
// nil without TLS.
func (c *certificates) use(conf *tls.Config, source certs.Source) {
	c.tls.Store(conf)
	c.source.Store(&source)
	if source != nil {
		c.renewed()
	}
}

// listenerTLS returns the TLS configuration of a listener, which uses the one in
// force at each handshake. It is nil without TLS.
func (c *certificates) listenerTLS() *tls.Config {
	if c.tls.Load() == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.tls.Load(), nil
	}}
}

// Clients migrate at random moments within a time that grows with their number.
const (
	migrateEach   = 100 * time.Millisecond // for each session
	migrateWithin = time.Minute            // at most, in all
)

// renewed asks the clients to migrate to connections under the certificates in
// force, if one of these is new. After a reload an ACME source first has no
// certificate, and then usually those of the source before it.
func (c *certificates) renewed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := func(leaf *x509.Certificate) bool { return slices.ContainsFunc(c.migrated, leaf.Equal) }
	leaves := (*c.source.Load()).Leaves()
	if !slices.ContainsFunc(leaves, func(leaf *x509.Certificate) bool { return !known(leaf) }) {
		return
	}
	c.migrated = leaves
	n := len(c.server.Status().Sessions)
	if n == 0 {
		return
	}
	within := min(time.Duration(n)*migrateEach, migrateWithin)
	c.log.Info("migrating clients to the new certificate", "sessions", n, "within", within)
	c.server.RequestMigration(within)
}

// list returns those in force, for the admin endpoint.
func (c *certificates) list() []admin.Certificate {
	source := c.source.Load()
	if source == nil || *source == nil {
		return nil
	}
	var all []admin.Certificate
	for _, leaf := range (*source).Leaves() {
		name := leaf.Subject.CommonName
		switch {
		case len(leaf.DNSNames) > 0:
			name = leaf.DNSNames[0]
		case len(leaf.IPAddresses) > 0:
			name = leaf.IPAddresses[0].String()
		}
		all = append(all, admin.Certificate{Name: name, Expires: leaf.NotAfter.UTC()})
	}
	return all
}
