package certs

import (
	"crypto/x509"
	"slices"
)

// Names returns the identities in a client certificate: e-mail addresses, DNS
// names, URIs and the common name, in this order, without duplicates. They
// prove nothing unless the chain was verified: call it with VerifiedChains[0][0]
// of a tls.ConnectionState, never with PeerCertificates. A nil certificate has
// no names.
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
