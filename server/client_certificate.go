package server

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// connState is an http.Server.ConnState.
func (s *Server) connState(nc net.Conn, state http.ConnState) {
	s.limiter.connState(nc, state)
	if tc, ok := nc.(*tls.Conn); ok && state == http.StateClosed {
		s.logRefusedCertificate(tc)
	}
}

// logRefusedCertificate logs whose certificate made a TLS handshake fail. The
// connection has been closed by then, and Handshake returns what it returned before.
func (s *Server) logRefusedCertificate(tc *tls.Conn) {
	var fault *tls.CertificateVerificationError
	if !errors.As(tc.Handshake(), &fault) || len(fault.UnverifiedCertificates) == 0 {
		return
	}
	client, _ := netip.ParseAddrPort(tc.RemoteAddr().String())
	client = plain(client)
	if !s.certificates.allow(client) {
		return
	}
	leaf := fault.UnverifiedCertificates[0]
	var names []string
	if s.cfg.CertNames != nil {
		names = s.cfg.CertNames(leaf)
	}
	s.log.Warn(certificateRefused, "addr", addrText(client), "names", truncate(strings.Join(names, ", ")), "issuer", truncate(leaf.Issuer.String()), "reason", fault.Err,
		"hint", "if the client is yours, add the authority that issued its certificate to tls.client-ca, and its intermediates to the client's file; or renew the certificate")
}
