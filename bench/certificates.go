//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates are PEM files for all programs.
type certificates struct {
	ca, cert, key string
	both          string // certificate and key
	pool          *x509.CertPool
}

// newCertificates makes a CA and a certificate of it for the addresses.
func newCertificates(dir string, addrs ...string) (certificates, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificates{}, fmt.Errorf("make a key: %w", err)
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
			BasicConstraintsValid: true,
		}
	}
	ca := template(1, "adit benchmark CA")
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	leaf := template(2, "adit benchmark")
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, a := range addrs {
		leaf.IPAddresses = append(leaf.IPAddresses, net.ParseIP(a))
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return certificates{}, fmt.Errorf("make a CA: %w", err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
	if err != nil {
		return certificates{}, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificates{}, fmt.Errorf("encode a key: %w", err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	certPEM, keyPEM := block("CERTIFICATE", leafDER), block("PRIVATE KEY", keyDER)
	c := certificates{
		ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"),
		key: filepath.Join(dir, "key.pem"), both: filepath.Join(dir, "both.pem"),
		pool: x509.NewCertPool(),
	}
	c.pool.AppendCertsFromPEM(block("CERTIFICATE", caDER))
	return c, errors.Join(
		os.WriteFile(c.ca, block("CERTIFICATE", caDER), 0o600),
		os.WriteFile(c.cert, certPEM, 0o600),
		os.WriteFile(c.key, keyPEM, 0o600),
		os.WriteFile(c.both, append(certPEM, keyPEM...), 0o600),
	)
}

// clientConfig trusts only the CA and requires TLS 1.3.
func (c certificates) clientConfig() *tls.Config {
	return &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1"}
}
