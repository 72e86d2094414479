package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestACMEFaults(t *testing.T) {
	dir := t.TempDir()
	names := []string{"gw.example.com"}
	file := write(t, dir, "file", []byte("x"))
	for _, c := range []struct {
		options ACMEOptions
		want    string
	}{
		{ACMEOptions{CacheDir: dir}, "no domain"},
		{ACMEOptions{Domains: []string{"*.example.com"}, CacheDir: dir}, "not a name"},
		{ACMEOptions{Domains: []string{"192.0.2.1"}, CacheDir: dir}, "not a name"},
		{ACMEOptions{Domains: []string{"localhost"}, CacheDir: dir}, "not a name"},
		{ACMEOptions{Domains: []string{"gw.example.com:443"}, CacheDir: dir}, "not a name"},
		{ACMEOptions{Domains: []string{""}, CacheDir: dir}, "not a name"},
		{ACMEOptions{Domains: names}, "no directory"},
		{ACMEOptions{Domains: names, CacheDir: file}, "not a directory"},
		{ACMEOptions{Domains: names, CacheDir: dir, DirectoryURL: "http://ca.example.com"}, "not the https URL"},
		{ACMEOptions{Domains: names, CacheDir: dir, RootCAFile: file}, "not PEM"},
	} {
		_, err := ACME(c.options)
		hinted(t, err, c.want)
	}
}

// counting is an unreachable authority that counts requests.
type counting struct{ n atomic.Int32 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return nil, errors.New("unreachable for the test")
}

// over makes the source reach its authority through t.
func (s *ACMESource) over(t http.RoundTripper) { s.client.Transport.(*endingTransport).next = t }

// Handshakes for other names cause no request to the authority; handshakes for
// a configured name cause one, and after a failure none until the pause ends.
func TestACMEHandshakesCauseNoRequests(t *testing.T) {
	dead := &counting{}
	s, err := ACME(ACMEOptions{Domains: []string{"GW.example.com."}, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.over(dead)
	for range 20 {
		for _, name := range []string{"", "other.example.com", "localhost", strings.Repeat("a", 1000), "../x.example.com"} {
			for _, protos := range [][]string{nil, {"acme-tls/1"}} {
				if _, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: protos}); err == nil {
					t.Fatalf("a certificate for %q", name)
				}
			}
		}
	}
	if n := dead.n.Load(); n != 0 {
		t.Fatalf("%d requests for names that are not configured", n)
	}
	_, err = s.GetCertificate(&tls.ClientHelloInfo{ServerName: "gw.example.com"})
	hinted(t, err, "unreachable for the test")
	n := dead.n.Load()
	for range 20 {
		if _, again := s.GetCertificate(&tls.ClientHelloInfo{ServerName: "gw.example.com"}); again != err {
			t.Fatalf("got %v, want the same error", again)
		}
	}
	if dead.n.Load() != n {
		t.Errorf("%d more requests in the pause", dead.n.Load()-n)
	}
}

func TestACMEPauseGrows(t *testing.T) {
	d := &acmeDomain{}
	now := time.Unix(1e9, 0)
	fail := errors.New("no")
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		want *= time.Minute
		if err := d.begin(now); err != nil {
			t.Fatal(err)
		}
		if err := d.begin(now); !errors.Is(err, errACMEBusy) {
			t.Errorf("concurrent attempt: %v", err)
		}
		d.failed(now, fail, acmeRetryMin)
		if got := d.wait(now); got != want {
			t.Errorf("pause %v, want %v", got, want)
		}
		if err := d.begin(now.Add(want - 1)); !errors.Is(err, fail) {
			t.Errorf("within the pause: %v", err)
		}
		now = now.Add(want)
	}
	if err := d.begin(now); err != nil {
		t.Fatal(err)
	}
	d.succeeded(nil)
	if err := d.begin(now); err != nil || d.pause != 0 {
		t.Errorf("%v, %v", err, d.pause)
	}
}

// Run ends with its context although a request hangs.
func TestACMERunEndsWithContext(t *testing.T) {
	hanging := make(chan struct{}, 10)
	s, err := ACME(ACMEOptions{Domains: []string{"a.example.com", "b.example.com"}, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.over(roundTrip(func(r *http.Request) (*http.Response, error) {
		hanging <- struct{}{}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func(domain string, err error) { t.Errorf("%s: %v", domain, err) })
	}()
	<-hanging
	cancel()
	select {
	case <-done:
	case <-time.After(watchdog):
		t.Fatal("Run does not return")
	}
}

// seed writes a certificate into a cache in autocert's format.
func seed(t *testing.T, cache, domain string, from, until time.Time) *x509.Certificate {
	t.Helper()
	ca := issue(t, nil, nil)
	old := issue(t, &ca, func(c *x509.Certificate) {
		c.DNSNames, c.NotBefore, c.NotAfter = []string{domain}, from, until
	})
	write(t, cache, domain, append(old.keyPEM(t), old.certPEM()...))
	return old.cert
}

// A certificate that autocert fails to renew is served, and reported when its
// renewal is overdue and again when it has expired.
func TestACMERenewalOverdue(t *testing.T) {
	const domain = "gw.example.com"
	cache := t.TempDir()
	now := time.Now()
	old := seed(t, cache, domain, now.Add(-80*24*time.Hour), now.Add(10*24*time.Hour))
	s, err := ACME(ACMEOptions{Domains: []string{domain}, CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	s.over(&counting{})
	results, end := runACME(s)
	defer end()
	if r := <-results; r.err != nil {
		t.Errorf("reported at the first check: %v", r.err)
	}
	hinted(t, (<-results).err, "expires on "+old.NotAfter.UTC().Format(time.DateTime))
	if c, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: domain}); err != nil || !c.Leaf.Equal(old) {
		t.Errorf("the old one is not served: %v", err)
	}

	for _, c := range []struct {
		life, left time.Duration
		want       string
	}{
		{90 * 24 * time.Hour, 31 * 24 * time.Hour, ""},
		{90 * 24 * time.Hour, 29*24*time.Hour + time.Hour, ""}, // renewal has begun
		{90 * 24 * time.Hour, 29*24*time.Hour - time.Hour, "expires on"},
		{6 * 24 * time.Hour, 25 * time.Hour, ""},
		{6 * 24 * time.Hour, 23 * time.Hour, "expires on"},
		{time.Hour, 11 * time.Minute, ""},
		{time.Hour, 9 * time.Minute, "expires on"},
		{90 * 24 * time.Hour, -time.Second, "expired on"},
	} {
		leaf := &x509.Certificate{NotBefore: now.Add(c.left - c.life), NotAfter: now.Add(c.left)}
		switch err := renewalFault(domain, leaf, now); {
		case c.want != "":
			hinted(t, err, c.want)
		case err != nil:
			t.Errorf("%v left of %v: %v", c.left, c.life, err)
		}
	}
}

type acmeResult struct {
	domain string
	err    error
}

// runACME runs a source with a short check interval until end is called.
func runACME(s *ACMESource) (results chan acmeResult, end func()) {
	s.check = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	results = make(chan acmeResult, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func(domain string, err error) { results <- acmeResult{domain, err} })
	}()
	return results, func() { cancel(); <-done }
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
