package certs

import (
	"crypto/x509"
	"errors"
	"net/url"
	"sync"
	"time"
)

// After a failed request a domain makes none for acmeRetryMin, doubled with
// each further failure up to acmeRetryMax. Let's Encrypt allows five failures
// per hour and name.
const (
	acmeRetryMin = 2 * time.Minute
	acmeRetryMax = time.Hour
)

var errACMEBusy = errors.New("a certificate is being requested at the moment")

// acmeDomain keeps handshakes of unauthenticated clients from causing requests
// to the authority: one request at a time, and a growing pause after a failure.
type acmeDomain struct {
	// Guarded by mu.
	mu    sync.Mutex
	ready bool              // the last attempt succeeded
	busy  bool              // an attempt is in progress
	err   error             // of the last attempt
	leaf  *x509.Certificate // of the last successful attempt
	pause time.Duration     // after the last failure; 0 after a success
	until time.Time         // end of the pause
}

// begin reports whether an attempt may begin now. It returns nil if so, and
// also if the domain has a certificate; otherwise errACMEBusy, or in a pause
// the last attempt's error. succeeded or failed must follow a nil.
func (d *acmeDomain) begin(now time.Time) error {
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

func (d *acmeDomain) succeeded(leaf *x509.Certificate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy, d.ready, d.err, d.pause, d.leaf = false, true, nil, 0, leaf
}

// failed begins a pause: the given minimum, or twice the previous pause.
func (d *acmeDomain) failed(now time.Time, err error, minimum time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy, d.ready, d.err = false, false, err
	d.pause = min(max(2*d.pause, minimum), acmeRetryMax)
	d.until = now.Add(d.pause)
}

// current returns the last certificate, or nil.
func (d *acmeDomain) current() *x509.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaf
}

// wait returns the time until the next attempt is allowed, at least 1 s.
func (d *acmeDomain) wait(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.until.Sub(now), time.Second)
}

// acmeFault wraps an error of autocert with what the operator can check.
func acmeFault(name string, err error) error {
	hint := "the authority must reach this server on port 443 of that name (tls-alpn-01): check DNS, the firewall, and that nothing in front terminates TLS"
	var netErr *url.Error
	if errors.As(err, &netErr) {
		hint = "this machine must reach the authority's directory: check the URL, DNS, the firewall, and the root CA file of a private authority"
	}
	return &Error{Step: "ACME", File: name, Err: err, hint: hint}
}
