package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions say where certificates come from (RFC 8555).
type ACMEOptions struct {
	// Domains are the names to get certificates for, one certificate each: DNS
	// names in ASCII, at least one, no wildcards.
	Domains []string
	// CacheDir keeps the account's key and the certificates across restarts;
	// it is made (0700) if need be. Required: authorities limit how often they
	// issue.
	CacheDir string
	// Email is where the authority may write to. May be empty.
	Email string
	// DirectoryURL is the authority's directory. Default: Let's Encrypt.
	DirectoryURL string
	// RootCAFile is a PEM file of authorities by which the directory's own TLS
	// certificate is checked. Default: the system's.
	RootCAFile string
}

const (
	acmeRequestTimeout = 30 * time.Second

	// After a failure a domain is left alone for this time, doubled up to the
	// maximum. Let's Encrypt allows five failures an hour for a name.
	acmeRetryMin = 2 * time.Minute
	acmeRetryMax = time.Hour

	// acmeCheck is how often Run makes sure that every domain has a
	// certificate that is not late; autocert renews by timers of its own.
	acmeCheck = time.Hour

	// acmeBusy is when Run looks again at a domain that a handshake is
	// getting a certificate for.
	acmeBusy = 5 * time.Second
)

// ACMESource gets certificates from an ACME authority and renews them. It
// proves its right to a name by tls-alpn-01 (RFC 8737) only, on the listener
// that it serves; the authority connects to port 443.
type ACMESource struct {
	manager *autocert.Manager
	client  *http.Client
	order   []string
	domains map[string]*acmeDomain
	cancel  context.CancelFunc // ends requests under way and to come
	retry   time.Duration      // acmeRetryMin
	check   time.Duration      // acmeCheck
}

// acmeDomain keeps strangers' handshakes from driving requests to the
// authority: one at a time, and a growing pause after a failure.
type acmeDomain struct {
	mu    sync.Mutex
	ready bool // the last attempt was good
	busy  bool
	err   error             // of the last attempt
	leaf  *x509.Certificate // of the last good one
	pause time.Duration
	until time.Time // no attempt before
}

var errACMEBusy = errors.New("a certificate is being requested at the moment")

// ACME checks the options and returns a source. Nothing is requested yet: Run
// does, and so does the first handshake for a name. Errors are *Error.
func ACME(o ACMEOptions) (*ACMESource, error) {
	s := &ACMESource{domains: make(map[string]*acmeDomain), retry: acmeRetryMin, check: acmeCheck}
	for _, given := range o.Domains {
		name := canonicalName(given)
		if net.ParseIP(name) != nil || !isDNSName(name) || !strings.Contains(name, ".") {
			return nil, fault("ACME", fmt.Sprintf("%q", given),
				"give full DNS names in ASCII, such as gw.example.com; tls-alpn-01 proves neither wildcards nor addresses",
				"not a name that a certificate can be requested for")
		}
		if s.domains[name] == nil {
			s.domains[name] = &acmeDomain{}
			s.order = append(s.order, name)
		}
	}
	if len(s.order) == 0 {
		return nil, fault("ACME", "", "name the domains under which this server is reached", "no domain given")
	}
	if err := writableDir(o.CacheDir); err != nil {
		return nil, err
	}
	if o.DirectoryURL == "" {
		o.DirectoryURL = autocert.DefaultACMEDirectory
	} else if u, err := url.Parse(o.DirectoryURL); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fault("ACME", fmt.Sprintf("%q", o.DirectoryURL), "it looks like https://acme.example.com/directory", "not the https URL of a directory")
	}
	ctx, cancel := context.WithCancel(context.Background())
	client, err := acmeClient(ctx, o.RootCAFile)
	if err != nil {
		cancel()
		return nil, err
	}
	s.client, s.cancel = client, cancel
	s.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(o.CacheDir),
		HostPolicy: autocert.HostWhitelist(s.order...),
		Email:      o.Email,
		Client: &acme.Client{
			DirectoryURL: o.DirectoryURL,
			HTTPClient:   client,
			RetryBackoff: func(n int, _ *http.Request, res *http.Response) time.Duration {
				// A negative time gives up: acmeDomain pauses for longer.
				if n > 6 || ctx.Err() != nil || res.StatusCode == http.StatusTooManyRequests {
					return -1
				}
				return min(100*time.Millisecond<<n, 5*time.Second)
			},
		},
	}
	return s, nil
}

func writableDir(dir string) error {
	const step = "ACME cache"
	if dir == "" {
		return fault(step, "", "give a directory that stays, such as /var/lib/adit/acme", "no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dirFault(step, dir, err)
	}
	// Known now rather than after the authority has issued.
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return dirFault(step, dir, err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return dirFault(step, dir, err)
	}
	return nil
}

// acmeClient returns an HTTP client without a proxy, whose requests end with
// ctx: autocert gives its callers no way to stop it.
func acmeClient(ctx context.Context, rootCAFile string) (*http.Client, error) {
	t := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	if rootCAFile != "" {
		pool, err := LoadPool(rootCAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Timeout: acmeRequestTimeout, Transport: &endingTransport{ctx, t}}, nil
}

// endingTransport refuses requests and ends those under way when ctx ends.
type endingTransport struct {
	ctx  context.Context
	next http.RoundTripper
}

func (t *endingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	res, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	res.Body = &endingBody{res.Body, func() { stop(); cancel() }}
	return res, nil
}

// endingBody releases the request's context when the reply has been read.
type endingBody struct {
	io.ReadCloser
	release func()
}

func (b *endingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

func (t *endingTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// GetCertificate answers the authority's challenges, and serves the
// certificate of the name asked for. If there is none yet it requests one,
// which takes seconds; other handshakes for the name fail meanwhile, and for a
// growing pause (2 min to 1 h) after a failure.
func (s *ACMESource) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := canonicalName(hello.ServerName)
	if s.domains[name] == nil {
		return nil, fmt.Errorf("ACME: no certificate for the name %.100q", hello.ServerName)
	}
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto {
		return s.manager.GetCertificate(hello)
	}
	return s.certificate(name)
}

// certificate returns the certificate of a configured name.
func (s *ACMESource) certificate(name string) (*tls.Certificate, error) {
	d := s.domains[name]
	if err := d.enter(time.Now()); err != nil {
		return nil, err
	}
	// autocert would get a second, RSA certificate for clients without ECDSA;
	// no client of TLS 1.2 that matters lacks it. So it is asked in our words.
	cert, err := s.manager.GetCertificate(&tls.ClientHelloInfo{
		ServerName:   name,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
	if err != nil {
		err = acmeFault(name, err)
	}
	d.leave(time.Now(), err, s.retry)
	if err == nil {
		d.keep(cert.Leaf)
	}
	return cert, err
}

func (d *acmeDomain) enter(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ready:
		return nil
	case d.busy:
		return errACMEBusy
	case now.Before(d.until):
		return d.err
	}
	d.busy = true
	return nil
}

func (d *acmeDomain) leave(now time.Time, err error, retry time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy, d.ready, d.err = false, err == nil, err
	if err == nil {
		d.pause = 0
		return
	}
	d.pause = min(max(2*d.pause, retry), acmeRetryMax)
	d.until = now.Add(d.pause)
}

func acmeFault(name string, err error) error {
	hint := "the authority must reach this server on port 443 of that name (tls-alpn-01): check DNS, the firewall, and that nothing in front ends TLS"
	var netErr *url.Error
	if errors.As(err, &netErr) {
		hint = "this machine must reach the authority's directory: check the URL, DNS, the firewall, and the root CA file of a private authority"
	}
	return &Error{Step: "ACME", File: name, Err: err, hint: hint}
}

// autocert starts to renew when a third of a certificate's life is left, at
// most acmeWindow, and then tries about every hour for as long as it takes.
// What it fails at it tells nobody. A certificate is late acmeLate after the
// start, or when half of the time is over.
const (
	acmeWindow = 30 * 24 * time.Hour
	acmeLate   = 24 * time.Hour
)

// renewalFault says that the certificate in use should have been renewed: an
// *Error, or nil.
func renewalFault(name string, leaf *x509.Certificate, now time.Time) error {
	window := min(leaf.NotAfter.Sub(leaf.NotBefore)/3, acmeWindow)
	if now.Before(leaf.NotAfter.Add(-window + min(acmeLate, window/2))) {
		return nil
	}
	ends := "expires"
	if now.After(leaf.NotAfter) {
		ends = "expired"
	}
	return fault("ACME", name,
		"the authority must reach this server on port 443 of that name (tls-alpn-01), and this machine the authority's directory: check DNS, firewalls, and that nothing in front ends TLS; renewal is tried again every hour",
		"the certificate %s on %s, and renewing it does not succeed", ends, stamp(leaf.NotAfter))
}

// Run gets the certificates of all domains, and retries until ctx ends. Start
// it when the listener is up: the authority connects back. report (nil is
// allowed) is called from Run's goroutine with nil when a domain has a new
// certificate, the first or a renewed one, and with an *Error when there is
// none or the one in use is late to be renewed, once for each new error.
//
// When ctx ends, requests to the authority are ended, too, also those of
// handshakes; Run returns after the attempt under way, which may finish a
// pause of some seconds. The source then serves what it has and requests no
// more.
func (s *ACMESource) Run(ctx context.Context, report func(domain string, err error)) {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	defer s.client.CloseIdleConnections()
	said := make(map[string]string)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.cancel()
			return
		case <-timer.C:
		}
		next := s.check
		for _, name := range s.order {
			cert, err := s.certificate(name)
			if ctx.Err() != nil {
				break
			}
			if errors.Is(err, errACMEBusy) {
				next = min(next, acmeBusy)
				continue
			}
			var say string
			if err != nil {
				next = min(next, s.domains[name].wait(time.Now()))
			} else {
				say = cert.Leaf.SerialNumber.String()
				if said[name] != "" { // one from the cache may be renewed at this moment
					err = renewalFault(name, cert.Leaf, time.Now())
				}
			}
			if err != nil {
				say = err.Error()
			}
			if said[name] != say && report != nil {
				report(name, err)
			}
			said[name] = say
		}
		timer.Reset(next)
	}
}

// wait is the time until the next attempt is allowed.
func (d *acmeDomain) wait(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.until.Sub(now), time.Second)
}

func canonicalName(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
