package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func staticOf(i issued) *Static {
	c := i.pair()
	return (*Static)(&c)
}

func TestServerConfig(t *testing.T) {
	ca := issue(t, nil, nil)
	a := issue(t, &ca, nil)
	c := ServerConfig(staticOf(a), nil)
	if !slices.Equal(c.NextProtos, []string{"http/1.1"}) || c.ClientAuth != tls.NoClientCert {
		t.Errorf("%v, %v", c.NextProtos, c.ClientAuth)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	old := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if _, _, srvErr, _ := handshake(t, c, old); srvErr == nil {
		t.Error("TLS 1.1 was accepted")
	}
	acme, err := ACME(ACMEOptions{Domains: []string{"gw.example.com"}, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got := ServerConfig(acme, nil).NextProtos; !slices.Equal(got, []string{"http/1.1", "acme-tls/1"}) {
		t.Error(got)
	}
}

// A client verifies its server in each configured way.
func TestClientVerifiesServer(t *testing.T) {
	dir := t.TempDir()
	ca, otherCA := issue(t, nil, nil), issue(t, nil, nil)
	caFile := write(t, dir, "ca", ca.certPEM())
	good := issue(t, &ca, nil)
	rogue := issue(t, &otherCA, nil)
	elsewhere := issue(t, &ca, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.example"}, nil })
	self, err := Ephemeral(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options ClientOptions
		server  *Static
		want    string // part of the client's error
	}{
		"CA":                         {ClientOptions{CAFile: caFile}, staticOf(good), ""},
		"CA, rogue server":           {ClientOptions{CAFile: caFile}, staticOf(rogue), "unknown authority"},
		"CA, other name":             {ClientOptions{CAFile: caFile}, staticOf(elsewhere), "127.0.0.1"},
		"CA, server name":            {ClientOptions{CAFile: caFile, ServerName: "other.example"}, staticOf(elsewhere), ""},
		"system":                     {ClientOptions{}, staticOf(good), "unknown authority"},
		"pin":                        {ClientOptions{Pins: []Pin{PinOf(self.Leaf)}}, (*Static)(&self), ""},
		"one of two pins":            {ClientOptions{Pins: []Pin{{1}, PinOf(self.Leaf)}}, (*Static)(&self), ""},
		"pin, other key":             {ClientOptions{Pins: []Pin{PinOf(good.cert)}}, (*Static)(&self), "expected sha256:"},
		"pin of the CA":              {ClientOptions{Pins: []Pin{PinOf(ca.cert)}}, staticOf(good), "expected sha256:"},
		"pin and CA":                 {ClientOptions{Pins: []Pin{PinOf(good.cert)}, CAFile: caFile}, staticOf(good), ""},
		"pin and CA, wrong pin":      {ClientOptions{Pins: []Pin{{}}, CAFile: caFile}, staticOf(good), "expected sha256:"},
		"pin and CA, wrong CA":       {ClientOptions{Pins: []Pin{PinOf(rogue.cert)}, CAFile: caFile}, staticOf(rogue), "unknown authority"},
		"pin and CA, wrong name":     {ClientOptions{Pins: []Pin{PinOf(elsewhere.cert)}, CAFile: caFile}, staticOf(elsewhere), "127.0.0.1"},
		"no verification":            {ClientOptions{InsecureSkipVerify: true}, staticOf(rogue), ""},
		"no verification, wrong pin": {ClientOptions{InsecureSkipVerify: true, Pins: []Pin{{}}}, staticOf(rogue), "expected sha256:"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := ClientConfig(c.options)
			if err != nil {
				t.Fatal(err)
			}
			_, state, _, err := handshake(t, ServerConfig(c.server, nil), client)
			if c.want == "" {
				if err != nil || state.NegotiatedProtocol != "http/1.1" {
					t.Fatalf("%q, %v", state.NegotiatedProtocol, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			var pm *PinMismatchError
			if errors.As(err, &pm) {
				got := PinOf(mustParse(t, c.server))
				if pm.Got != got || !strings.Contains(pm.Hint(), got.String()) || !strings.Contains(pm.Hint(), "intercept") {
					t.Errorf("%v: %s", pm, pm.Hint())
				}
			}
		})
	}
}

func mustParse(t *testing.T, s *Static) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(s.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A pin must hold for resumed sessions, too.
func TestPinOnResumption(t *testing.T) {
	self, err := Ephemeral(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := ServerConfig((*Static)(&self), nil)
	cache := tls.NewLRUClientSessionCache(1)
	for i, pin := range []Pin{PinOf(self.Leaf), PinOf(self.Leaf), {}} {
		client, err := ClientConfig(ClientOptions{Pins: []Pin{pin}})
		if err != nil {
			t.Fatal(err)
		}
		client.ClientSessionCache = cache
		_, state, _, err := handshake(t, server, client)
		if i == 1 && !state.DidResume {
			t.Error("not resumed")
		}
		if (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, otherCA := issue(t, nil, nil), issue(t, nil, nil)
	server := issue(t, &ca, nil)
	named := func(signer *issued, email string) issued {
		return issue(t, signer, func(c *x509.Certificate) {
			c.EmailAddresses, c.DNSNames, c.IPAddresses = []string{email}, nil, nil
			c.Subject.CommonName = ""
		})
	}
	alice, bob, mallory := named(&ca, "alice@example.com"), named(&ca, "bob@example.com"), named(&otherCA, "alice@example.com")
	cert, key := write(t, dir, "cert", alice.certPEM()), write(t, dir, "key", alice.keyPEM(t))

	clientCA, err := LoadPool(write(t, dir, "ca", ca.certPEM()))
	if err != nil {
		t.Fatal(err)
	}
	config := ServerConfig(staticOf(server), clientCA)
	var reports []event
	withCert, err := ClientConfig(ClientOptions{
		CAFile: dir + "/ca", CertFile: cert, KeyFile: key,
		Report: func(reloaded bool, err error) { reports = append(reports, event{reloaded, err}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	connect := func(client *tls.Config) ([]string, error) {
		t.Helper()
		state, _, srvErr, _ := handshake(t, config, client)
		if len(state.VerifiedChains) == 0 {
			return nil, srvErr
		}
		return Names(state.VerifiedChains[0][0]), srvErr
	}
	if names, err := connect(withCert); err != nil || !slices.Equal(names, []string{"alice@example.com"}) {
		t.Errorf("%v, %v", names, err)
	}
	without, err := ClientConfig(ClientOptions{CAFile: dir + "/ca"})
	if err != nil {
		t.Fatal(err)
	}
	if names, err := connect(without); err != nil || names != nil {
		t.Errorf("without a certificate: %v, %v", names, err)
	}
	// A new pair applies to the next connection; an invalid one changes nothing.
	write(t, dir, "cert", bob.certPEM())
	write(t, dir, "key", bob.keyPEM(t))
	if names, err := connect(withCert); err != nil || !slices.Equal(names, []string{"bob@example.com"}) {
		t.Errorf("%v, %v", names, err)
	}
	write(t, dir, "key", []byte("x"))
	for range 4 {
		if names, err := connect(withCert); err != nil || !slices.Equal(names, []string{"bob@example.com"}) {
			t.Errorf("%v, %v", names, err)
		}
	}
	if len(reports) != 2 || !reports[0].reloaded || reports[1].err == nil {
		t.Errorf("%+v", reports)
	}
	// A certificate of an untrusted authority is refused, whatever names it has.
	write(t, dir, "cert", mallory.certPEM())
	write(t, dir, "key", mallory.keyPEM(t))
	if names, err := connect(withCert); err == nil {
		t.Errorf("accepted %v", names)
	}
}

func TestClientConfigFaults(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, nil, nil)
	caFile := write(t, dir, "ca", ca.certPEM())
	for _, c := range []struct {
		options ClientOptions
		want    string
	}{
		{ClientOptions{CAFile: dir + "/none"}, "no such file"},
		{ClientOptions{CAFile: write(t, dir, "key", ca.keyPEM(t))}, "private key and no certificate"},
		{ClientOptions{CAFile: write(t, dir, "text", []byte("text"))}, "not PEM"},
		{ClientOptions{CAFile: caFile, InsecureSkipVerify: true}, "contradict"},
		{ClientOptions{CertFile: caFile}, "one is missing"},
		{ClientOptions{KeyFile: caFile}, "one is missing"},
		{ClientOptions{CertFile: caFile, KeyFile: caFile}, "no private key"},
	} {
		_, err := ClientConfig(c.options)
		hinted(t, err, c.want)
	}
}

func TestNames(t *testing.T) {
	u, err := url.Parse("spiffe://example.com/a")
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{EmailAddresses: []string{"a@example.com", ""}, DNSNames: []string{"a.example.com"}, URIs: []*url.URL{u}}
	c.Subject.CommonName = "a.example.com"
	want := []string{"a@example.com", "a.example.com", "spiffe://example.com/a"}
	if got := Names(c); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if Names(nil) != nil || Names(&x509.Certificate{}) != nil {
		t.Error("an empty certificate has names")
	}
}
