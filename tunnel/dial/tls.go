package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"

	"adit/tunnel"
)

// startTLS does a client handshake over nc. It offers exactly http/1.1 by ALPN: with h2 the peer could not be
// used, and some peers refuse a client without ALPN.
func startTLS(ctx context.Context, nc net.Conn, cfg *tls.Config, host string) (*tls.Conn, error) {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		// Certificates have addresses without zones.
		cfg.ServerName, _, _ = strings.Cut(host, "%")
	}
	cfg.NextProtos = []string{"http/1.1"}
	tc := tls.Client(tunnel.FastConn(nc), cfg)
	return tc, tc.HandshakeContext(ctx)
}

// tlsDetail describes an established TLS connection in one line.
func tlsDetail(cs *tls.ConnectionState) string {
	s := tls.VersionName(cs.Version) + ", " + tls.CipherSuiteName(cs.CipherSuite)
	if len(cs.PeerCertificates) > 0 {
		s += ", " + describeCert(cs.PeerCertificates[0])
	}
	return s
}

// describeCert names a certificate by its subject and issuer.
func describeCert(c *x509.Certificate) string {
	subject, issuer := printable(c.Subject.String()), printable(c.Issuer.String())
	if subject == "" && len(c.DNSNames) > 0 {
		subject = printable(c.DNSNames[0])
	}
	return fmt.Sprintf("certificate of %q issued by %q", subject, issuer)
}
