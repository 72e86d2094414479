package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"
)

// blocks is the content of a PEM file.
type blocks struct {
	certs     [][]byte
	keys      [][]byte // DER of the unencrypted private keys
	encrypted bool
}

func readBlocks(data []byte) blocks {
	var b blocks
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return b
		}
		switch {
		case block.Type == "CERTIFICATE":
			b.certs = append(b.certs, block.Bytes)
		case block.Type == "ENCRYPTED PRIVATE KEY",
			strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			b.encrypted = true
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			b.keys = append(b.keys, block.Bytes)
		}
	}
}

// parsePair parses the contents of the two PEM files of a certificate and its
// key. It uses the file names in errors only.
func parsePair(certPEM, keyPEM []byte, certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	chain, err := parseCerts("certificate", certFile, certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyFile, keyPEM)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	if !samePublic(key.Public(), leaf.PublicKey) {
		for _, c := range chain[1:] {
			if samePublic(key.Public(), c.PublicKey) {
				return nil, fault("certificate", certFile, "put the server's own certificate first, then the intermediates",
					"the key belongs to a certificate further down in the file (%s)", c.Subject)
			}
		}
		return nil, fault("key", keyFile, "take the key that the certificate was requested with; after a renewal copy both files",
			"it does not belong to the certificate in %s", certFile)
	}
	if now.After(leaf.NotAfter) {
		return nil, fault("certificate", certFile, renewHint, "it expired on %s", stamp(leaf.NotAfter))
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

const renewHint = "renew it; if it was renewed, check which file the renewal writes"

// stamp formats a time for messages.
func stamp(t time.Time) string { return t.UTC().Format(time.DateTime + " MST") }

// ParseFirst returns the first certificate in the contents of a PEM file. It
// uses the file's name in errors only, which are *Error.
func ParseFirst(file string, data []byte) (*x509.Certificate, error) {
	certs, err := parseCerts("certificate", file, data)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// parseCerts returns the certificates of a PEM file, at least one.
func parseCerts(step, file string, data []byte) ([]*x509.Certificate, error) {
	b := readBlocks(data)
	if begun := bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")); begun > len(b.certs) {
		return nil, fault(step, file, "copy the file again; each certificate is a block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, both on lines of their own",
			"%d of its %d certificates cannot be decoded", begun-len(b.certs), begun)
	}
	if len(b.certs) == 0 {
		switch {
		case len(b.keys) > 0 || b.encrypted:
			return nil, fault(step, file, "the paths of certificate and key are swapped, or this file is the key",
				"it holds a private key and no certificate")
		case len(bytes.TrimSpace(data)) == 0:
			return nil, fault(step, file, "it may be incomplete; a PEM file has a line -----BEGIN CERTIFICATE-----", "it is empty")
		}
		if _, err := x509.ParseCertificates(data); err == nil {
			return nil, fault(step, file, "convert it: openssl x509 -inform DER -in "+file+" -out cert.pem", "it is DER, not PEM")
		}
		return nil, fault(step, file, "a PEM file has a line -----BEGIN CERTIFICATE-----", "it is not PEM or contains no certificate")
	}
	certs := make([]*x509.Certificate, 0, len(b.certs))
	for i, der := range b.certs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault(step, file, "inspect it: openssl x509 -text -noout -in "+file, "certificate number %d: %w", i+1, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// parseKey returns the first private key of a PEM file.
func parseKey(file string, data []byte) (crypto.Signer, error) {
	b := readBlocks(data)
	switch {
	case len(b.keys) > 0:
	case b.encrypted:
		return nil, fault("key", file, "a service cannot ask for the passphrase; decrypt the key: (umask 077; openssl pkey -in "+file+" -out plain.pem)",
			"it is encrypted")
	case len(b.certs) > 0:
		return nil, fault("key", file, "the paths of certificate and key are swapped, or this file is the certificate",
			"it holds a certificate and no private key")
	case len(bytes.TrimSpace(data)) == 0:
		return nil, fault("key", file, "it may be incomplete; a PEM file has a line -----BEGIN PRIVATE KEY-----", "it is empty")
	default:
		if _, err := parseKeyDER(data); err == nil {
			return nil, fault("key", file, "convert it: (umask 077; openssl pkey -inform DER -in "+file+" -out key.pem)", "it is DER, not PEM")
		}
		return nil, fault("key", file, "a PEM file has a line -----BEGIN PRIVATE KEY-----", "it is not PEM or contains no private key")
	}
	key, err := parseKeyDER(b.keys[0])
	if err != nil {
		return nil, fault("key", file, "use an ECDSA, Ed25519 or RSA key in PEM; to convert one from OpenSSH's format: ssh-keygen -p -m PKCS8 -f KEY",
			"%w", err)
	}
	return key, nil
}

var errKeyFormat = errors.New("it is neither PKCS #8, PKCS #1 nor SEC 1, or it is damaged")

func parseKeyDER(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case *ecdsa.PrivateKey:
			return key, nil
		case ed25519.PrivateKey:
			return key, nil
		}
		return nil, errors.New("TLS cannot sign with this type of key")
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errKeyFormat
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
