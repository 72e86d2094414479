package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	"adit/tunnel"
)

// startTLS does a client handshake over nc. It offers exactly http/1.1 by ALPN: with h2 the peer could not be
// used, and some peers refuse a client without ALPN.
func (a *attempt) startTLS(ctx context.Context, nc net.Conn, cfg *tls.Config, host string) (*tls.Conn, error) {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		// Certificates have addresses without zones.
		cfg.ServerName, _, _ = strings.Cut(host, "%")
	}
	cfg.NextProtos = []string{"http/1.1"}
	if a.small {
		cfg.CurvePreferences = classicalOnly(cfg.CurvePreferences)
		cfg.ClientSessionCache = nil // a ticket may be large
	}
	tc := tls.Client(tunnel.FastConn(nc), cfg)
	return tc, tc.HandshakeContext(ctx)
}

// classicalOnly returns the key exchanges whose shares are small: those of curves, or of Go's default if it is empty.
func classicalOnly(curves []tls.CurveID) []tls.CurveID {
	classical := []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	var kept []tls.CurveID
	for _, c := range curves {
		if slices.Contains(classical, c) {
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		return classical
	}
	return kept
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
