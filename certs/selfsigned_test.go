package certs

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "adit")
	src, created, err := SelfSigned(dir, nil)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	leaf := src.Leaf()
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if host, err := os.Hostname(); err == nil && isDNSName(host) && !slices.Contains(leaf.DNSNames, host) {
		t.Errorf("%s is missing in %v", host, leaf.DNSNames)
	}
	if years := time.Until(leaf.NotAfter).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("valid for %v years", years)
	}
	if leaf.IsCA {
		t.Error("it can sign others")
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "key.pem": 0o600, "cert.pem": 0o644} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode() != want {
				t.Errorf("%q: %v, %v", name, info.Mode(), err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}

	again, created, err := SelfSigned(dir, []string{"localhost", "gw.example.com"})
	if err != nil || created || !again.Leaf().Equal(leaf) {
		t.Fatal(created, err)
	}
	if w := again.Warnings(); len(w) != 1 {
		t.Errorf("want one about gw.example.com: %v", w)
	}
	// As the warning says, a new certificate has the same key and pin.
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	renewed, created, err := SelfSigned(dir, []string{"localhost", "gw.example.com", "*.gw.example.com"})
	if err != nil || !created || renewed.Leaf().Equal(leaf) || PinOf(renewed.Leaf()) != PinOf(leaf) {
		t.Fatal(created, err)
	}
	if w := renewed.Warnings(); len(w) != 0 {
		t.Error(w)
	}
}

func TestSelfSignedRace(t *testing.T) {
	dir := t.TempDir()
	var pins [8]Pin
	var wg sync.WaitGroup
	for i := range pins {
		wg.Go(func() {
			src, _, err := SelfSigned(dir, []string{"localhost"})
			if err != nil {
				t.Error(err)
				return
			}
			pins[i] = PinOf(src.Leaf())
		})
	}
	wg.Wait()
	for _, p := range pins {
		if p != pins[0] {
			t.Error("several keys")
		}
	}
}

func TestSelfSignedFaults(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "file", nil)
	_, _, err := SelfSigned("", nil)
	hinted(t, err, "no directory")
	_, _, err = SelfSigned(file, nil)
	hinted(t, err, "not a directory")
	for _, name := range []string{"", "a b", "host:443", "bücher.example", "a..b", "*"} {
		_, _, err = SelfSigned(dir, []string{name})
		hinted(t, err, "neither a DNS name")
		_, err = Ephemeral([]string{name})
		hinted(t, err, "neither a DNS name")
	}
	ca := issue(t, nil, nil)
	old := issue(t, &ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	write(t, dir, "cert.pem", old.certPEM())
	write(t, dir, "key.pem", old.keyPEM(t))
	_, _, err = SelfSigned(dir, nil)
	hinted(t, err, "expired")
	write(t, dir, "key.pem", []byte("x"))
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	_, _, err = SelfSigned(dir, nil)
	hinted(t, err, "not PEM")
	if b, err := os.ReadFile(filepath.Join(dir, "key.pem")); err != nil || string(b) != "x" {
		t.Error("a bad key was replaced")
	}
}

func TestEphemeral(t *testing.T) {
	c, err := Ephemeral(nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ClientConfig(ClientOptions{Pins: []Pin{PinOf(c.Leaf)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, srvErr, cliErr := handshake(t, ServerConfig((*Static)(&c), nil), client); srvErr != nil || cliErr != nil {
		t.Fatal(srvErr, cliErr)
	}
}
