package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions configure an ACMESource.
type ACMEOptions struct {
	// Domains are the names to get certificates for, one certificate each: DNS
	// names in ASCII, at least one, no wildcards.
	Domains []string
	// CacheDir keeps the account key and the certificates across restarts. It
	// is created (0700) if missing. Required, because authorities limit how
	// often they issue.
	CacheDir string
	// Email is the account's contact address; "" registers none.
	Email string
	// DirectoryURL is the URL of the authority's directory. Default: Let's
	// Encrypt.
	DirectoryURL string
	// RootCAFile is a PEM file of authorities that verify the directory's own
	// TLS certificate. Default: the system's.
	RootCAFile string
}

// ACMESource gets certificates from an ACME authority (RFC 8555) and renews
// them. It proves control of a name by tls-alpn-01 (RFC 8737) only, on the
// listener that uses this source; the authority connects to port 443. It is
// safe for concurrent use.
type ACMESource struct {
	manager *autocert.Manager
	client  *http.Client
	order   []string // the domains as configured
	domains map[string]*acmeDomain
	cancel  context.CancelFunc // ends all requests, present and future
	retry   time.Duration      // acmeRetryMin, shorter in tests
	check   time.Duration      // acmeCheck, shorter in tests
}

// ACME checks the options and returns a source. It requests nothing: Run does,
// and so does the first handshake for a name. Errors are *Error.
func ACME(o ACMEOptions) (*ACMESource, error) {
	s := &ACMESource{domains: make(map[string]*acmeDomain), retry: acmeRetryMin, check: acmeCheck}
	if err := s.addDomains(o.Domains); err != nil {
		return nil, err
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
				// A negative duration gives up; acmeDomain then pauses for longer.
				if n > 6 || ctx.Err() != nil || res.StatusCode == http.StatusTooManyRequests {
					return -1
				}
				return min(100*time.Millisecond<<n, 5*time.Second)
			},
		},
	}
	return s, nil
}

func (s *ACMESource) addDomains(names []string) error {
	for _, given := range names {
		name := canonicalName(given)
		if net.ParseIP(name) != nil || !isDNSName(name) || !strings.Contains(name, ".") {
			return fault("ACME", fmt.Sprintf("%q", given),
				"give full DNS names in ASCII, such as gw.example.com; tls-alpn-01 proves neither wildcards nor addresses",
				"not a name that a certificate can be requested for")
		}
		if s.domains[name] == nil {
			s.domains[name] = &acmeDomain{}
			s.order = append(s.order, name)
		}
	}
	if len(s.order) == 0 {
		return fault("ACME", "", "name the domains under which this server is reached", "no domain given")
	}
	return nil
}

// writableDir creates dir if it is missing and checks that it can be written,
// before the authority issues certificates that could then not be kept.
func writableDir(dir string) error {
	const step = "ACME cache"
	if dir == "" {
		return fault(step, "", "give a directory that persists, such as /var/lib/adit/acme", "no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dirFault(step, dir, err)
	}
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

// GetCertificate answers the authority's challenges and serves the certificate
// of the requested name. If there is none yet, it requests one, which takes
// seconds; other handshakes for the name fail meanwhile. After a failure all
// handshakes for the name fail for a pause that grows from 2 min to 1 h.
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

// certificate returns the certificate of a configured name, requesting it if
// necessary.
func (s *ACMESource) certificate(name string) (*tls.Certificate, error) {
	d := s.domains[name]
	if err := d.begin(time.Now()); err != nil {
		return nil, err
	}
	// The original ClientHello could make autocert request a second, RSA
	// certificate for clients without ECDSA. No relevant TLS 1.2 client lacks
	// ECDSA, so this hello announces it.
	cert, err := s.manager.GetCertificate(&tls.ClientHelloInfo{
		ServerName:   name,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
	if err != nil {
		err = acmeFault(name, err)
		d.failed(time.Now(), err, s.retry)
		return nil, err
	}
	d.succeeded(cert.Leaf)
	return cert, nil
}

// Leaves implements Source: the certificates of the domains that have one.
func (s *ACMESource) Leaves() []*x509.Certificate {
	var leaves []*x509.Certificate
	for _, name := range s.order {
		if leaf := s.domains[name].current(); leaf != nil {
			leaves = append(leaves, leaf)
		}
	}
	return leaves
}

func canonicalName(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
