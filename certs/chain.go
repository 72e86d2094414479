package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// chainWarning returns a warning about a chain that clients may not be able to
// verify, or "". Browsers often find a missing intermediate by themselves, and
// other clients do not.
func chainWarning(file string, cert *tls.Certificate) string {
	leaf := cert.Leaf
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		return "" // self-signed
	}
	if len(cert.Certificate) > 1 {
		issuer, err := x509.ParseCertificate(cert.Certificate[1])
		if err == nil && leaf.CheckSignatureFrom(issuer) == nil {
			return ""
		}
		return fmt.Sprintf("certificate %s: the second certificate in it did not sign the first, whose issuer is %q: append the issuer's certificates in order, each after the one that it signed", file, leaf.Issuer.String())
	}
	if _, err := leaf.Verify(x509.VerifyOptions{CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		return "" // the system trusts its issuer
	}
	return fmt.Sprintf("certificate %s has no chain: unless all clients trust its issuer %q itself, append the issuer's certificate (ACME clients write both to fullchain.pem)", file, leaf.Issuer.String())
}
