package certs

import (
	"bufio"
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
	"testing"
	"time"

	"adit/internal/testnet"
)

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
