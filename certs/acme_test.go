package certs

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
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

// TestACMEPebble gets certificates from a real authority, pebble, on loopback.
func TestACMEPebble(t *testing.T) {
	const domain, hopeless = "gw.adit.test", "hopeless.adit.test"
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	authority := startPebble(t, ln.Addr().(*net.TCPAddr).Port, serveDNS(t, domain))
	cache := filepath.Join(t.TempDir(), "cache")
	options := ACMEOptions{
		Domains: []string{domain, hopeless}, CacheDir: cache, Email: "ops@adit.test",
		DirectoryURL: authority.directory, RootCAFile: authority.caFile,
	}
	s, err := ACME(options)
	if err != nil {
		t.Fatal(err)
	}
	serveTLS(t, ln, ServerConfig(s, nil))

	results, end := runACME(s)
	defer end()
	for range 2 {
		select {
		case r := <-results:
			switch r.domain {
			case domain:
				if r.err != nil {
					t.Fatal(r.err)
				}
			case hopeless: // its name does not resolve
				hinted(t, r.err, "ACME hopeless.adit.test")
			}
		case <-time.After(3 * watchdog):
			t.Fatal("no certificate and no error")
		}
	}

	roots := authority.roots(t)
	get := func(want string) (*x509.Certificate, error) {
		c, err := tls.Dial("tcp4", ln.Addr().String(), &tls.Config{ServerName: want, RootCAs: roots, NextProtos: []string{"http/1.1"}})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		state := c.ConnectionState()
		if state.NegotiatedProtocol != "http/1.1" {
			return nil, fmt.Errorf("ALPN %q", state.NegotiatedProtocol)
		}
		return state.PeerCertificates[0], nil
	}
	first, err := get(domain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(hopeless); err == nil {
		t.Error("a certificate for a name that was not proved")
	}
	if _, err := get("other.adit.test"); err == nil {
		t.Error("a certificate for a name that is not configured")
	}

	// After a restart the certificate comes from the cache, without the authority.
	dead := &counting{}
	again, err := ACME(ACMEOptions{Domains: []string{domain}, CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	again.over(dead)
	c, err := again.GetCertificate(&tls.ClientHelloInfo{ServerName: domain})
	if err != nil || !c.Leaf.Equal(first) || dead.n.Load() != 0 {
		t.Errorf("%v after %d requests", err, dead.n.Load())
	}
	if entries, err := os.ReadDir(cache); err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == domain }) {
		t.Errorf("cache: %v, %v", entries, err)
	}
}

// A renewal is reported, and the new certificate served.
func TestACMEPebbleRenewal(t *testing.T) {
	const domain = "gw.adit.test"
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	authority := startPebble(t, ln.Addr().(*net.TCPAddr).Port, serveDNS(t, domain))
	cache := t.TempDir()
	// The cached certificate is due for renewal, so autocert renews it at once.
	now := time.Now()
	old := seed(t, cache, domain, now.Add(-80*24*time.Hour), now.Add(10*24*time.Hour))
	s, err := ACME(ACMEOptions{
		Domains: []string{domain}, CacheDir: cache, DirectoryURL: authority.directory, RootCAFile: authority.caFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	serveTLS(t, ln, ServerConfig(s, nil))
	results, end := runACME(s)
	defer end()
	if r := <-results; r.err != nil {
		t.Fatal(r.err)
	}
	for timeout := time.After(watchdog); ; {
		select {
		case r := <-results:
			if r.err != nil { // overdue until the authority has answered
				hinted(t, r.err, "expires on")
				continue
			}
			if leaves := s.Leaves(); len(leaves) != 1 || leaves[0].Equal(old) {
				t.Error("the old certificate is served")
			}
			return
		case <-timeout:
			t.Fatal("the renewal is not reported")
		}
	}
}

// serveTLS accepts connections and closes them after the handshake, until the
// test ends.
func serveTLS(t *testing.T, ln net.Listener, config *tls.Config) {
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(watchdog))
				_ = tls.Server(c, config).Handshake()
			})
		}
	})
}

// serveDNS starts a DNS server that resolves one name to 127.0.0.1 and no other,
// and returns its address.
func serveDNS(t *testing.T, name string) string {
	t.Helper()
	return testnet.ServeDNS(t, map[string][]netip.Addr{name: {netip.MustParseAddr("127.0.0.1")}})
}

type pebble struct {
	directory, management, caFile string
	client                        *http.Client
}

// startPebble runs the authority until the test ends. It validates names on
// tlsPort of the addresses that the DNS server dns returns.
func startPebble(t *testing.T, tlsPort int, dns string) pebble {
	t.Helper()
	if _, err := exec.LookPath("pebble"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("pebble is not on PATH (apt install pebble)")
		}
		t.Skip("pebble is not on PATH (apt install pebble)")
	}
	dir := t.TempDir()
	ca := issue(t, nil, nil)
	own := issue(t, &ca, nil)
	caFile := write(t, dir, "ca.pem", ca.certPEM())
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	p := pebble{caFile: caFile, client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}}
	listen, manage := freePort(t), freePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage,
		"certificate": write(t, dir, "cert.pem", own.certPEM()), "privateKey": write(t, dir, "key.pem", own.keyPEM(t)),
		"httpPort": 1, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pebble", "-config", write(t, dir, "config.json", config), "-dnsserver", dns)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			mu.Lock()
			fmt.Fprintln(&log, lines.Text())
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			t.Logf("pebble:\n%s", log.String())
		}
	})
	p.directory, p.management = "https://"+listen+"/dir", "https://"+manage
	deadline := time.Now().Add(watchdog)
	for {
		_, err := p.fetch(p.directory)
		if err == nil {
			_, err = p.fetch(p.management + "/roots/0")
		}
		if err == nil {
			return p
		}
		select {
		case <-read:
			t.Fatal("pebble ended")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not answer: %v", err)
		}
	}
}

func (p pebble) fetch(url string) ([]byte, error) {
	res, err := p.client.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, 1<<20))
}

// roots returns the roots of pebble's certificates.
func (p pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	data, err := p.fetch(p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatal("no root")
	}
	return pool
}

// freePort returns a loopback address that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
