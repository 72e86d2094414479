package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Fetch returns the certificate that the server at addr, HOST:PORT, presents for a
// server name. It does not verify the certificate: the caller has to know its pin
// from elsewhere.
func Fetch(ctx context.Context, addr, serverName string) (*x509.Certificate, error) {
	d := tls.Dialer{Config: &tls.Config{
		ServerName:         serverName,
		InsecureSkipVerify: true,
		NextProtos:         []string{"http/1.1"},
	}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("get the certificate of %s: %w", addr, err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}
