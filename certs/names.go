package certs

import (
	"crypto/x509"
	"slices"
)

// Names returns the identities in a client certificate: its e-mail addresses,
// DNS names, URIs and the common name, in this order, without repetition. They
// are only worth what the chain is: call it for verified certificates, such as
// VerifiedChains[0][0] of a tls.ConnectionState, never for PeerCertificates
// alone. nil has no names.
func Names(cert *x509.Certificate) []string {
	if cert == nil {
		return nil
	}
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, n := range cert.EmailAddresses {
		add(n)
	}
	for _, n := range cert.DNSNames {
		add(n)
	}
	for _, u := range cert.URIs {
		add(u.String())
	}
	add(cert.Subject.CommonName)
	return names
}
