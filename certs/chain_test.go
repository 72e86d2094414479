package certs

import (
	"crypto/x509"
	"strings"
	"testing"
)

// A certificate file without its intermediates is named at the start: browsers may
// find them, other clients do not.
func TestCertificateWithoutItsChain(t *testing.T) {
	root := issue(t, nil, nil)
	intermediate := issue(t, &root, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.DNSNames, c.IPAddresses, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil, nil, nil
	})
	leaf, dir := issue(t, &intermediate, nil), t.TempDir()
	key := write(t, dir, "key", leaf.keyPEM(t))
	for want, file := range map[string][]byte{
		"has no chain": leaf.certPEM(),
		"the second certificate in it did not sign": append(leaf.certPEM(), root.certPEM()...),
		"": append(leaf.certPEM(), intermediate.certPEM()...),
	} {
		src, err := Files(write(t, dir, "cert", file), key)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(src.Warnings(), "|")
		if (want == "") != (got == "") || !strings.Contains(got, want) || want != "" && !strings.Contains(got, intermediate.cert.Subject.CommonName) {
			t.Errorf("want %q: %q", want, got)
		}
	}
	self, err := Ephemeral(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := chainWarning("f", &self); w != "" {
		t.Error(w)
	}
}
