package auth

import (
	"errors"
	"fmt"
	"net/netip"
)

// What Authenticate and the methods of Policy answer; test with errors.Is.
var (
	// ErrNoCredentials: the peer presented nothing to judge.
	ErrNoCredentials = errors.New("no credentials")
	// ErrRejected: the peer presented credentials, and they are not good.
	ErrRejected = errors.New("credentials rejected")
	// ErrThrottled: the password was not even looked at, because its address
	// or the whole server has too many checks under way. Comes together with
	// ErrRejected.
	ErrThrottled = errors.New("too many password attempts")
	// ErrForbidden: the policy does not allow what was asked for.
	ErrForbidden = errors.New("forbidden by policy")
)

// PolicyError says what a policy refused. It wraps ErrForbidden.
type PolicyError struct {
	// Asked is what the peer asked for: "db.lan:5432", "unix:/run/x.sock" or
	// the name of a target. It comes from the peer: quoted and cut to a
	// readable length when it is printed.
	Asked string
	// Addr is the resolved address that was judged; the zero Addr when the
	// refusal came before name resolution or is about a socket or a target.
	Addr netip.Addr
	// Reason says why, in a few words.
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

// Hint says in one sentence what the operator could change.
func (e *PolicyError) Hint() string { return e.hint }

// RuleError is a policy rule that cannot be understood.
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
	Name  string // the user's name, may be empty
	Field string // as in the configuration: "name", "token-hash", "cert-name", "allow", "max-sessions"
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

// Hint says in one sentence how to mend the definition.
func (e *UserError) Hint() string {
	var cause interface{ Hint() string }
	if e.hint == "" && errors.As(e.Err, &cause) {
		return cause.Hint()
	}
	return e.hint
}

// quote makes foreign text safe and short enough to print.
func quote(s string) string {
	const limit = 120
	if len(s) > limit {
		return fmt.Sprintf("%q…", s[:limit])
	}
	return fmt.Sprintf("%q", s)
}
