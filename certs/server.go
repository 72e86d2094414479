package certs

import (
	"crypto/tls"
	"crypto/x509"

	"golang.org/x/crypto/acme"
)

// ServerConfig returns the configuration of a TLS listener: TLS 1.2 or newer,
// ALPN exactly http/1.1 (and acme-tls/1 if s is an *ACMESource). With clientCA
// a client may present a certificate, which must then be good; nil asks for
// none. The caller owns the result.
func ServerConfig(s Source, clientCA *x509.CertPool) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: s.GetCertificate,
	}
	if _, ok := s.(*ACMESource); ok {
		c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	}
	if clientCA != nil {
		c.ClientCAs = clientCA
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c
}

// Static is a Source of one certificate that never changes, such as one from
// Ephemeral.
type Static tls.Certificate

// GetCertificate returns the certificate.
func (s *Static) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return (*tls.Certificate)(s), nil
}
