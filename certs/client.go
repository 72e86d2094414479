package certs

import (
	"crypto/tls"
	"errors"
	"slices"
)

// ClientOptions say how a client verifies its server and which certificate it
// presents. The zero value verifies the server by the system's authorities and
// presents none.
type ClientOptions struct {
	// CAFile is a PEM file of authorities that replace the system's.
	CAFile string
	// Pins are the keys of which the server must have one. They replace the
	// verification of chain, name and validity, unless CAFile is given: then
	// both must succeed.
	Pins []Pin
	// CertFile and KeyFile are the client's own certificate: both or neither.
	// They are checked for changes at each handshake and reloaded; an invalid
	// new pair leaves the old one in use.
	CertFile, KeyFile string
	// ServerName is sent (SNI) and verified instead of the URL's host.
	ServerName string
	// InsecureSkipVerify accepts any server: a man in the middle can read and
	// change all data and gets the token. Pins are verified nevertheless;
	// together with CAFile it is an error.
	InsecureSkipVerify bool
	// Report, which may be nil, is called when the client certificate was
	// reloaded, and once for each error of reloading it. It is called from the
	// handshake's goroutine.
	Report func(reloaded bool, err error)
}

// ClientConfig returns the TLS configuration of a client: TLS 1.2 or newer,
// ALPN http/1.1. Errors are *Error; a server without a pinned key fails the
// handshake with a *PinMismatchError. The caller owns the result.
func ClientConfig(o ClientOptions) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		ServerName: o.ServerName,
	}
	switch {
	case o.CAFile != "" && o.InsecureSkipVerify:
		return nil, fault("TLS", "", "leave out one of them; with a CA file the server can be verified",
			"a CA file and disabled verification contradict each other")
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
		// VerifyConnection also runs for resumed sessions,
		// VerifyPeerCertificate does not.
		pins := slices.Clone(o.Pins)
		c.VerifyConnection = func(cs tls.ConnectionState) error { return checkPin(cs, pins) }
	}
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, fault("client certificate", o.CertFile+o.KeyFile, "give both the certificate and its key; they may be in the same file",
			"of certificate and key one is missing")
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
