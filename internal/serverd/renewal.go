package serverd

import (
	"crypto/x509"
	"slices"
	"time"

	"adit/admin"
)

// Clients migrate at random moments within a time that grows with their number.
const (
	migrateEach   = 100 * time.Millisecond // for each session
	migrateWithin = time.Minute            // at most, in all
)

// renewed asks the clients to migrate to connections under the certificates in
// force, if one of these is new. After a reload an ACME source first has no
// certificate, and then usually those of the source before it.
func (d *Daemon) renewed() {
	d.migratedMu.Lock()
	defer d.migratedMu.Unlock()
	known := func(leaf *x509.Certificate) bool { return slices.ContainsFunc(d.migrated, leaf.Equal) }
	leaves := (*d.source.Load()).Leaves()
	if !slices.ContainsFunc(leaves, func(leaf *x509.Certificate) bool { return !known(leaf) }) {
		return
	}
	d.migrated = leaves
	n := len(d.server.Status().Sessions)
	if n == 0 {
		return
	}
	within := min(time.Duration(n)*migrateEach, migrateWithin)
	d.log.Info("migrating clients to the new certificate", "sessions", n, "within", within)
	d.server.RequestMigration(within)
}

// certificates returns those in force, for the admin endpoint.
func (d *Daemon) certificates() []admin.Certificate {
	source := d.source.Load()
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
