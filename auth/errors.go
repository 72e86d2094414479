package auth

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors that Authenticate and the methods of Policy wrap; test for them with
// errors.Is.
var (
	// ErrNoCredentials means that the peer presented no credentials.
	ErrNoCredentials = errors.New("no credentials")
	// ErrRejected means that the peer's credentials are not valid.
	ErrRejected = errors.New("credentials rejected")
	// ErrThrottled means that the password was not checked: the peer's address
	// has spent its attempts, or the server runs too many checks. It comes
	// together with ErrRejected.
	ErrThrottled = errors.New("too many password attempts")
	// ErrForbidden means that the policy does not allow the request.
	ErrForbidden = errors.New("forbidden by policy")
)

// PolicyError says what a policy refused, and why. It wraps ErrForbidden.
type PolicyError struct {
	// Asked is what the peer asked for: "db.lan:5432", "unix:/run/x.sock" or
	// the name of a target. It is the peer's own text; Error quotes and
	// shortens it.
	Asked string
	// Addr is the resolved address that was refused. It is the zero Addr if
	// the refusal came before name resolution or concerns a socket or target.
	Addr netip.Addr
	// Reason is a phrase for the log.
	Reason string

	hint string
}

func (e *PolicyError) Error() string {
	if e.Addr.IsValid() {
		return fmt.Sprintf("%s (address %s): %v: %s", quote(e.Asked), e.Addr, ErrForbidden, e.Reason)
	}
	return fmt.Sprintf("%s: %v: %s", quote(e.Asked), ErrForbidden, e.Reason)
}

// Unwrap returns ErrForbidden.
func (e *PolicyError) Unwrap() error { return ErrForbidden }

// Hint says in one sentence what the operator can change.
func (e *PolicyError) Hint() string { return e.hint }

// RuleError is a syntax error in a policy rule.
type RuleError struct {
	Rule   string // as written
	Reason string

	hint string
}

func (e *RuleError) Error() string { return fmt.Sprintf("rule %s: %s", quote(e.Rule), e.Reason) }

// Hint says in one sentence how to write the rule.
func (e *RuleError) Hint() string { return e.hint }

// UserError is a fault in the definition of one user.
type UserError struct {
	Index int    // position in the list given to NewUsers, from 0
	Name  string // the user's name; may be empty
	Field string // configuration key: "name", "token-hash", "cert-name", "allow" or "max-sessions"
	Err   error

	hint string
}

func (e *UserError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("user number %d: %s: %v", e.Index+1, e.Field, e.Err)
	}
	return fmt.Sprintf("user %s: %s: %v", quote(e.Name), e.Field, e.Err)
}

// Unwrap returns the cause.
func (e *UserError) Unwrap() error { return e.Err }

// Hint says in one sentence how to correct the definition.
func (e *UserError) Hint() string {
	var cause interface{ Hint() string }
	if e.hint == "" && errors.As(e.Err, &cause) {
		return cause.Hint()
	}
	return e.hint
}

// quote makes untrusted text safe and short enough to print.
func quote(s string) string {
	const limit = 120
	if len(s) > limit {
		return fmt.Sprintf("%q…", s[:limit])
	}
	return fmt.Sprintf("%q", s)
}
