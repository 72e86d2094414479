package dial

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"adit/tunnel"
)

// startTLS does a client handshake over nc. ALPN is exactly http/1.1: a proxy
// or server that picks h2 could not be used, and one that insists on ALPN
// refuses a client without it.
func startTLS(ctx context.Context, nc net.Conn, cfg *tls.Config, host string) (*tls.Conn, error) {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		// A zone is no part of a name that a certificate could have.
		cfg.ServerName, _, _ = strings.Cut(host, "%")
	}
	cfg.NextProtos = []string{"http/1.1"}
	tc := tls.Client(tunnel.FastConn(nc), cfg)
	return tc, tc.HandshakeContext(ctx)
}

// tlsDetail describes an established TLS connection in one line.
func tlsDetail(cs *tls.ConnectionState) string {
	s := tls.VersionName(cs.Version) + ", " + tls.CipherSuiteName(cs.CipherSuite)
	if len(cs.PeerCertificates) > 0 {
		s += ", " + describeCert(cs.PeerCertificates[0])
	}
	return s
}

func describeCert(c *x509.Certificate) string {
	subject, issuer := printable(c.Subject.String()), printable(c.Issuer.String())
	if subject == "" && len(c.DNSNames) > 0 {
		subject = printable(c.DNSNames[0])
	}
	return fmt.Sprintf("certificate of %q issued by %q", subject, issuer)
}

// tlsFailure says what a failed handshake means. state may be that of the
// failed connection; who is theServer or theProxy.
func tlsFailure(err error, state tls.ConnectionState, who string) (text error, hint string, permanent bool) {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var hinted interface {
		error
		Hint() string
	}
	switch {
	case errors.As(err, &hinted):
		// A verification of the caller's own, such as a pin.
		if len(state.PeerCertificates) > 0 {
			err = fmt.Errorf("%w; %s presented a %s", err, who, describeCert(state.PeerCertificates[0]))
		}
		return err, hinted.Hint(), true
	case errors.As(err, &verify):
		return certFailure(verify, err, who)
	case errors.As(err, &record):
		return recordFailure(record, err, who)
	case isRemoteAlert(err):
		return alertFailure(err, who)
	case timedOut(err):
		return &described{"no answer from " + who + " in time", err},
			"the port may not speak TLS, or a firewall drops what looks like TLS to this name", false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		verb := " closed"
		if errors.Is(err, syscall.ECONNRESET) {
			verb = " reset"
		}
		return &described{who + verb + " the connection during the handshake", err},
			"the port may not speak TLS, or a firewall cuts connections to this server name", false
	}
	return err, who + " may speak a TLS that this client does not, or something in between changes it: see the log of " + who, false
}

func certFailure(verify *tls.CertificateVerificationError, err error, who string) (text error, hint string, permanent bool) {
	chain := verify.UnverifiedCertificates
	presented := ""
	if len(chain) > 0 {
		presented = "; " + who + " presented a " + describeCert(chain[0])
		if last := chain[len(chain)-1]; len(chain) > 1 && last.Issuer.String() != chain[0].Issuer.String() {
			presented += fmt.Sprintf(", whose chain ends at %q", printable(last.Issuer.String()))
		}
	}
	describe := func(text string) error { return &described{text + presented, err} }

	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var roots x509.SystemRootsError
	switch {
	case errors.As(err, &unknown):
		switch {
		case who == theProxy:
			hint = "if you know and trust this issuer, add its certificate to those that this system trusts"
		case len(chain) > 0 && bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject):
			hint = "the certificate is self-signed: pin it with --pin (the server prints its pin, and 'adit pin' shows it), or give it with --ca"
		default:
			hint = "if you know and trust this issuer (your own CA, or your company's inspecting proxy), add its certificate with --ca, or pin the server with --pin; otherwise someone is in between"
		}
		return describe("the certificate is signed by an unknown authority"), hint, true
	case errors.As(err, &name):
		hint = "use a name of the certificate in the address, or give it with --server-name"
		if who == theProxy {
			hint = "use a name of the certificate in the proxy's address"
		}
		return describe(printable(strings.TrimPrefix(name.Error(), "x509: "))), hint, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if c := invalid.Cert; c != nil && time.Now().Before(c.NotBefore) {
			// A clock not set yet mends itself.
			return describe("the certificate is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)),
				"check this machine's clock", false
		}
		text := "the certificate has expired"
		if invalid.Cert != nil {
			text += " on " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
		}
		return describe(text), "renew the certificate of " + who + ", or check this machine's clock", true
	case errors.As(err, &roots):
		return describe("this system's trusted certificates cannot be read"), "install the package ca-certificates", true
	}
	return describe(printable(strings.TrimPrefix(verify.Err.Error(), "x509: "))), "replace the certificate of " + who, true
}

func recordFailure(record tls.RecordHeaderError, err error, who string) (text error, hint string, permanent bool) {
	scheme := "ws://"
	if who == theProxy {
		scheme = "http://"
	}
	switch first := string(record.RecordHeader[:]); {
	case strings.HasPrefix(first, "HTTP"):
		return &described{who + " speaks plain HTTP on this port, not TLS", err},
			"use the port that speaks TLS; write " + scheme + " only if it is meant to be unencrypted", false
	case strings.HasPrefix(first, "SSH-"):
		return &described{who + " speaks SSH on this port, not TLS", err}, "check the port", false
	default:
		return &described{fmt.Sprintf("%s does not speak TLS on this port, its answer begins with %q", who, first), err}, "check the address and the port", false
	}
}

// isRemoteAlert reports whether the peer ended a connection by a TLS alert. In
// TLS 1.3 the one about our certificate arrives after the handshake, with the
// first read.
func isRemoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func alertFailure(err error, who string) (text error, hint string, permanent bool) {
	var op *net.OpError
	errors.As(err, &op)
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	text = &described{who + " refused with the alert \"" + alert + "\"", err}
	// crypto/tls has no exported names for alerts, only these texts.
	switch alert {
	case "certificate required":
		return text, who + " wants a client certificate: give one with --cert and --key", true
	case "bad certificate", "unknown certificate authority", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate", "access denied":
		return text, who + " does not accept the client certificate: check --cert, its expiry, and the client CA of " + who, true
	case "unrecognized name":
		return text, who + " does not know this server name: check the address, or set --server-name", false
	case "no application protocol":
		return text, who + " does not offer http/1.1 by ALPN, which WebSocket needs", false
	case "protocol version not supported":
		return text, who + " supports neither TLS 1.2 nor 1.3, which is too old", false
	case "handshake failure":
		return text, who + " may want a client certificate (--cert, --key), know no certificate for this name, or share no cipher with us", false
	}
	return text, "see the log of " + who, false
}
