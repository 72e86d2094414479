package dial

import (
	"fmt"
	"strings"
)

// A Step is the part of a dial that an error or event belongs to.
type Step string

// The steps in their order, except that StepAuthentication, which reads the credentials, comes after
// StepConfiguration.
const (
	StepConfiguration  Step = "configuration"
	StepDNS            Step = "DNS"
	StepTCP            Step = "TCP"
	StepSocket         Step = "socket" // in place of DNS and TCP, for a unix socket
	StepProxy          Step = "proxy"
	StepTLS            Step = "TLS"
	StepUpgrade        Step = "upgrade"
	StepAuthentication Step = "authentication"
)

// An Error says which step of a dial failed, with which peer, why, and what to do about it. It never contains a
// password or a token.
type Error struct {
	Step Step
	// Addr is the host name (DNS), HOST:PORT (TCP, proxy, TLS), unix:PATH (socket) or URL (configuration, upgrade) of the step.
	// May be empty.
	Addr string
	// Err is the cause, for errors.Is and errors.As.
	Err error
	// hint is what Hint returns.
	hint string
	// Permanent says that another attempt would fail as well: bad configuration, a rejected certificate or
	// pin, wrong credentials.
	Permanent bool
}

// Error returns one line such as
// "TLS to gw.example.com:443: certificate has expired".
func (e *Error) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	join := " to "
	switch e.Step {
	case StepDNS:
		join = " for "
	case StepConfiguration, StepProxy:
		join = " "
	}
	return fmt.Sprintf("%s%s%s: %v", e.Step, join, e.Addr, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what to do, in one line, or "". Error does not include it.
func (e *Error) Hint() string { return e.hint }

// A StatusError is the cause in an Error if a peer refused in HTTP: a proxy a CONNECT, a server the upgrade.
type StatusError struct {
	Code int
	// Reason is the peer's own reason phrase, made printable. May be empty.
	Reason string
	// Schemes are the authentication schemes that a 407 or 401 offers.
	Schemes []string
	// Detail is what else the reply says about the cause, made printable: a redirect's target, a proxy's
	// own error code. May be empty.
	Detail string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%d", e.Code)
	if e.Reason != "" {
		s += " " + e.Reason
	}
	if len(e.Schemes) > 0 {
		s += " (offers " + strings.Join(e.Schemes, ", ") + ")"
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}
