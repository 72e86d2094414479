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
)

// failTLS reports and returns the error of TLS with who, which is theServer or theProxy. tc is nil if the
// handshake has not begun.
func (a *attempt) failTLS(ctx context.Context, start time.Time, who string, tc *tls.Conn, err error) error {
	var cs tls.ConnectionState
	if tc != nil {
		cs = tc.ConnectionState()
	}
	a.helloLost = tc != nil && (timedOut(err) || errors.Is(err, syscall.ECONNRESET))
	cause, hint, permanent := tlsFailure(err, cs, who)
	var record tls.RecordHeaderError
	if who == theServer && errors.As(err, &record) {
		if text, blocked, ok := a.blockPage(record.RecordHeader[:], err); ok {
			cause, hint = text, blocked
		}
	}
	serr := &Error{Step: StepTLS, Addr: a.target, Err: cause, hint: hint, Permanent: permanent}
	if who == theProxy {
		serr.Step, serr.Addr, serr.Err = StepProxy, a.dialAddr, fmt.Errorf("TLS: %w", cause)
	}
	return a.fail(ctx, start, serr)
}

// tlsFailure returns the error and the hint for a failed handshake. state is that of the failed connection, or
// zero; who is theServer or theProxy.
func tlsFailure(err error, state tls.ConnectionState, who string) (text error, hint string, permanent bool) {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var hinted interface {
		error
		Hint() string
	}
	switch {
	case errors.As(err, &hinted):
		// The caller's own verification, such as that of a pin.
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
	return err, who + " may require TLS features that this client lacks, or a middlebox changes the connection: see the log of " + who, false
}

// certFailure is tlsFailure for a certificate that was not verified.
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
	selfSigned := len(chain) > 0 && bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject)
	switch {
	case errors.As(err, &unknown):
		switch {
		case who == theProxy:
			hint = "if you know and trust this issuer, add its certificate to those that this system trusts"
		case selfSigned:
			hint = "the certificate is self-signed: pin it with --pin (the server prints its pin, and 'adit pin' shows it), or give it with --ca"
		case len(chain) == 1:
			hint = "the server may send its certificate without the intermediate: give it the file with the whole chain (fullchain.pem), leaf first; if the issuer is your own CA or your company's inspecting proxy and you trust it, add its certificate with --ca, or pin the server with --pin; otherwise the connection may be intercepted"
		default:
			hint = "if you know and trust this issuer (your own CA, or your company's inspecting proxy), add its certificate with --ca, or pin the server with --pin; otherwise the connection may be intercepted"
		}
		return describe("the certificate is signed by an unknown authority"), hint, true
	case errors.As(err, &name):
		switch {
		case who == theProxy:
			hint = "use a name of the certificate in the proxy's address"
		case selfSigned:
			// With a pin the name does not matter; with a name alone, the authority would be unknown.
			hint = "the certificate is self-signed: pin it with --pin (the server prints its pin, and 'adit pin' shows it), or give it with --ca and a name of it with --server-name"
		default:
			hint = "use a name of the certificate in the address, or give it with --server-name"
		}
		return describe(printable(strings.TrimPrefix(name.Error(), "x509: "))), hint, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if c := invalid.Cert; c != nil && time.Now().Before(c.NotBefore) {
			// Not permanent: the clock may be set soon.
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

// recordFailure is tlsFailure for an answer that is not a TLS record.
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

// alertFailure is tlsFailure for a TLS alert of the peer.
func alertFailure(err error, who string) (text error, hint string, permanent bool) {
	var op *net.OpError
	errors.As(err, &op)
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	text = &described{who + " refused with the alert \"" + alert + "\"", err}
	// crypto/tls exports alerts only as these texts.
	switch alert {
	case "certificate required":
		return text, who + " requires a client certificate: give one with --cert and --key", true
	case "bad certificate", "unknown certificate authority", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate", "access denied":
		return text, who + " does not accept the client certificate: check --cert, its expiry, and the client CA of " + who, true
	case "unrecognized name":
		return text, who + " does not know this server name: check the address, or set --server-name", false
	case "no application protocol":
		return text, who + " does not offer http/1.1 by ALPN, which WebSocket needs", false
	case "protocol version not supported":
		return text, who + " supports neither TLS 1.2 nor 1.3: its TLS is too old", false
	case "handshake failure":
		return text, who + " may require a client certificate (--cert, --key), have no certificate for this name, or support no cipher of this client", false
	}
	return text, "see the log of " + who, false
}
