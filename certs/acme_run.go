package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"time"
)

const (
	// acmeCheck is how often Run checks that every domain has a certificate
	// that is not overdue for renewal. autocert renews by its own timers.
	acmeCheck = time.Hour

	// acmeBusy is when Run checks a domain again for which a handshake is
	// requesting a certificate.
	acmeBusy = 5 * time.Second

	// autocert starts to renew when a third of a certificate's validity is
	// left, at most acmeWindow, and then retries about every hour. It does not
	// report failures. A certificate is overdue acmeLate after that start, or
	// after half of the remaining time if that is earlier.
	acmeWindow = 30 * 24 * time.Hour
	acmeLate   = 24 * time.Hour
)

// Run requests the certificates of all domains and retries until ctx ends.
// Start it when the listener is up: the authority connects back. report, which
// may be nil, is called from Run's goroutine: with nil when a domain has a new
// certificate, the first or a renewed one, and with an *Error, once for each
// new error, when a domain has none or its renewal is overdue.
//
// When ctx ends, Run cancels all requests to the authority, including those of
// handshakes, and returns after the attempt in progress, which may still sleep
// for some seconds. The source then serves the certificates that it has and
// requests no more.
func (s *ACMESource) Run(ctx context.Context, report func(domain string, err error)) {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	defer s.client.CloseIdleConnections()
	if report == nil {
		report = func(string, error) {}
	}
	reported := make(map[string]string) // by domain: the error, or the serial number
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
			if ctx.Err() != nil {
				break
			}
			next = min(next, s.checkDomain(ctx, name, reported, report))
		}
		timer.Reset(next)
	}
}

// checkDomain requests a domain's certificate if it has none, reports what is
// new, and returns when to check again.
func (s *ACMESource) checkDomain(ctx context.Context, name string, reported map[string]string, report func(string, error)) (next time.Duration) {
	next = s.check
	cert, err := s.certificate(name)
	if ctx.Err() != nil {
		return next
	}
	if errors.Is(err, errACMEBusy) {
		return acmeBusy
	}
	var outcome string
	if err != nil {
		next = s.domains[name].wait(time.Now())
	} else {
		outcome = cert.Leaf.SerialNumber.String()
		// On the first check the certificate comes from the cache, and its
		// renewal may have just begun.
		if reported[name] != "" {
			err = renewalFault(name, cert.Leaf, time.Now())
		}
	}
	if err != nil {
		outcome = err.Error()
	}
	if reported[name] != outcome {
		report(name, err)
	}
	reported[name] = outcome
	return next
}

// renewalFault returns an *Error if the certificate in use should have been
// renewed by now, else nil.
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
		"the authority must reach this server on port 443 of that name (tls-alpn-01), and this machine must reach the authority's directory: check DNS, firewalls, and that nothing in front terminates TLS; renewal is retried every hour",
		"the certificate %s on %s, and its renewal fails", ends, stamp(leaf.NotAfter))
}
