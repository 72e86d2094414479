package certs

import (
	"crypto/tls"
	"errors"
	"slices"
)

// ClientOptions say how a client checks its server and who it is itself. The
// zero value checks the server by the system's authorities.
type ClientOptions struct {
	// CAFile is a PEM file of authorities that replace the system's.
	CAFile string
	// Pins are keys of which the server must have one. They replace the check
	// by authorities, name and validity, unless CAFile is given: then both
	// checks must pass.
	Pins []Pin
	// CertFile and KeyFile are the client's own certificate, both or neither.
	// They are looked at for each connection and loaded again when they
	// changed; a bad new pair keeps the old.
	CertFile, KeyFile string
	// ServerName is sent (SNI) and checked instead of the URL's host.
	ServerName string
	// InsecureSkipVerify accepts any server: whoever stands in between reads
	// and changes everything, and gets the token. Pins are checked all the
	// same; together with CAFile it is an error.
	InsecureSkipVerify bool
	// Report (nil is allowed) is told of a client certificate that was loaded
	// again or could not be. It is called during handshakes, from their
	// goroutines, and once for each fault.
	Report func(reloaded bool, err error)
}

// ClientConfig returns the configuration of a client: TLS 1.2 or newer, ALPN
// http/1.1. Errors are *Error; a server with another key than the pinned ones
// fails the handshake with a *PinMismatchError. The caller owns the result.
func ClientConfig(o ClientOptions) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		ServerName: o.ServerName,
	}
	switch {
	case o.CAFile != "" && o.InsecureSkipVerify:
		return nil, fault("TLS", "", "leave out one of them; a CA file makes skipping the check unnecessary",
			"a CA file and no verification contradict each other")
	case o.CAFile != "":
		pool, err := LoadPool(o.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	case o.InsecureSkipVerify, len(o.Pins) > 0:
		c.InsecureSkipVerify = true
	}
	if len(o.Pins) > 0 {
		// VerifyConnection, because it also runs for resumed sessions.
		pins := slices.Clone(o.Pins)
		c.VerifyConnection = func(cs tls.ConnectionState) error { return checkPin(cs, pins) }
	}
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, fault("client certificate", o.CertFile+o.KeyFile, "give both the certificate and its key; they may be in the same file",
			"certificate and key belong together, and one is missing")
	case o.CertFile != "":
		src, err := Files(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if reloaded, err := src.poll(); o.Report != nil && (reloaded || err != nil) {
				o.Report(reloaded, err)
			}
			return src.GetCertificate(nil)
		}
	}
	return c, nil
}

func checkPin(cs tls.ConnectionState, pins []Pin) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	got := PinOf(cs.PeerCertificates[0])
	if !slices.Contains(pins, got) {
		return &PinMismatchError{Got: got, Want: pins}
	}
	return nil
}
