package client

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"adit/mux"
	"adit/tunnel/dial"
)

// The proxy's refusal is not the server's, and the client's own is neither.
func TestPermanentFailureNamesTheRefusingParty(t *testing.T) {
	failed := func(step dial.Step, cause error) error { return &dial.Error{Step: step, Err: cause, Permanent: true} }
	untrusted := &tls.CertificateVerificationError{Err: errors.New("unknown authority")}
	password := failed(dial.StepProxy, errors.New("the proxy rejected the user name or password"))
	token := failed(dial.StepUpgrade, &dial.StatusError{Code: 401})
	for _, tt := range []struct {
		errs []error
		want string
	}{
		{[]error{password}, "the proxy refuses this client"},
		{[]error{failed(dial.StepProxy, untrusted)}, "this client does not trust the proxy"},
		{[]error{failed(dial.StepTLS, untrusted)}, "this client does not trust the server"},
		{[]error{failed(dial.StepTLS, &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")})}, "the server refuses this client"},
		{[]error{token}, "the server refuses this client"},
		{[]error{&mux.ClosedError{Code: mux.CloseRevoked}}, "the server refuses this client"},
		{[]error{failed(dial.StepConfiguration, errors.New("no scheme"))}, "this client cannot connect"},
		{[]error{token, password}, "no server can be used"},
	} {
		if err := joinAttempts(tt.errs...); !errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), tt.want+": ") {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
