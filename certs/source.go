package certs

import (
	"crypto/tls"
	"crypto/x509"

	"golang.org/x/crypto/acme"
)

// Source supplies a server's certificate for each handshake. Its methods are
// safe for concurrent use.
type Source interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Leaves returns the server's own certificates in use, without
	// intermediates. They are shared and must not be changed.
	Leaves() []*x509.Certificate
}

// Static is a Source of one certificate that never changes, such as one from
// Ephemeral.
type Static tls.Certificate

// GetCertificate returns the certificate.
func (s *Static) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return (*tls.Certificate)(s), nil
}

// Leaves implements Source.
func (s *Static) Leaves() []*x509.Certificate {
	if s.Leaf == nil {
		return nil
	}
	return []*x509.Certificate{s.Leaf}
}

// ServerConfig returns the configuration of a TLS listener: TLS 1.2 or newer,
// ALPN exactly http/1.1, and also acme-tls/1 if s is an *ACMESource. If
// clientCA is not nil, clients may present a certificate, which must then be
// valid; otherwise none is requested. The caller owns the result.
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
