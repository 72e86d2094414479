package dial

import (
	"fmt"
	"strings"
	"unicode"
)

// Step names the part of a dial that an error or an event belongs to.
type Step string

// The steps, in the order in which a connection passes them; only
// StepAuthentication, which is about reading the credentials, comes early.
const (
	StepConfiguration  Step = "configuration"
	StepDNS            Step = "DNS"
	StepTCP            Step = "TCP"
	StepProxy          Step = "proxy"
	StepTLS            Step = "TLS"
	StepUpgrade        Step = "upgrade"
	StepAuthentication Step = "authentication"
)

// Error says which step of a dial failed, against whom, why, and what to
// do about it. It never holds a password or a token.
type Error struct {
	Step Step
	// Addr is the host name (DNS), HOST:PORT (TCP, proxy, TLS) or URL
	// (configuration, upgrade) that the step dealt with. May be empty.
	Addr string
	// Err is the cause, for errors.Is and errors.As.
	Err error
	// hint is what Hint returns.
	hint string
	// Permanent is true for a refusal that trying again will not mend:
	// bad configuration, a rejected certificate or pin, wrong credentials.
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

// Hint says in one sentence what to do; it is empty when there is nothing
// useful to say. Error does not include it.
func (e *Error) Hint() string { return e.hint }

// StatusError is the cause in a Error when a peer answered in HTTP, but
// not with what was asked for: a proxy that refuses a CONNECT, a server that
// does not upgrade.
type StatusError struct {
	Code int
	// Reason is the peer's own reason phrase, made printable. May be empty.
	Reason string
	// Schemes are the authentication schemes that the peer offers, as a 407
	// or a 401 names them.
	Schemes []string
	// Detail is what else the reply said of the cause, made printable: a
	// redirect's target, a proxy's own error code. May be empty.
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

// described puts a clearer text in front of an error without hiding the error
// from errors.Is and errors.As.
type described struct {
	text string
	err  error
}

func (e *described) Error() string { return e.text }
func (e *described) Unwrap() error { return e.err }

// maxPeerText bounds what a peer can put into one of our error texts.
const maxPeerText = 160

// printable makes text from a peer fit for an error or a log line: one line,
// no control characters, at most maxPeerText runes.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxPeerText {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
