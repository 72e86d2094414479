package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// User defines one identity, as a configuration writes it. At least one of
// TokenHash and CertName must be set; either of them suffices to log in.
type User struct {
	// Name is shown in logs and is the name of Basic credentials: 1 to 128
	// bytes, without a colon and without control characters. Unique.
	Name string
	// TokenHash is "sha256:HEX" of a token (see HashToken), or the bcrypt hash
	// of a password ("$2a$", "$2b$" or "$2y$", cost at most 15).
	TokenHash string
	// CertName is a name in a verified client certificate, compared byte for
	// byte. Unique.
	CertName string
	// Allow holds the policy's rules; none allows nothing. See ParsePolicy.
	Allow []string
	// MaxSessions bounds the user's sessions at one time; 0 means the
	// server's default.
	MaxSessions int
}

// Identity is who a peer turned out to be. It is shared: do not change it.
type Identity struct {
	Name        string
	Policy      *Policy
	MaxSessions int // 0: the server's default
}

// Users knows all identities. It is immutable; a reload makes a new one.
type Users struct {
	tokens  []*account // those whose secret is a token's SHA-256
	byName  map[string]*account
	byCert  map[string]*account
	topCost int // highest bcrypt cost of all; 0 when nobody has a password
	guard   *Guard
}

type account struct {
	identity *Identity
	secret   *secret // nil: certificate only
	certName string  // "": none
}

// Option changes how NewUsers builds.
type Option func(*Users)

// WithGuard makes the users share a guard, which a server does across reloads.
// Without it NewUsers makes one of its own with default bounds.
func WithGuard(g *Guard) Option { return func(u *Users) { u.guard = g } }

const maxName = 128

// NewUsers checks the definitions and builds the set. The error joins every
// fault found (errors.Join), each a *UserError with a hint. No users at all is
// not an error: such a set rejects everyone.
func NewUsers(list []User, opts ...Option) (*Users, error) {
	u := &Users{byName: make(map[string]*account), byCert: make(map[string]*account)}
	for _, o := range opts {
		o(u)
	}
	if u.guard == nil {
		u.guard = NewGuard(GuardOptions{})
	}
	var errs []error
	tokens := make(map[[sha256.Size]byte]string)
	for i, def := range list {
		fault := func(field string, err error, hint string) {
			errs = append(errs, &UserError{Index: i, Name: def.Name, Field: field, Err: err, hint: hint})
		}
		acct := &account{identity: &Identity{Name: def.Name, MaxSessions: def.MaxSessions}, certName: def.CertName}

		if reason := badName(def.Name); reason != "" {
			fault("name", errors.New(reason), `give every user a short name of its own, such as name = "alice"`)
		} else if u.byName[def.Name] != nil {
			fault("name", errors.New("two users have this name"), "rename one of them, or merge their rules")
		}
		if def.TokenHash == "" && def.CertName == "" {
			fault("token-hash", errors.New("neither token-hash nor cert-name is set, so nobody could log in"),
				`run "adit token" and paste the token-hash line, or set cert-name`)
		}
		if def.TokenHash != "" {
			s, err := parseHash(def.TokenHash)
			other, taken := tokens[s.sum]
			switch {
			case err != nil:
				fault("token-hash", err, "")
			case s.bcrypt != nil:
				acct.secret = &s
				u.topCost = max(u.topCost, s.cost)
			case taken:
				fault("token-hash", fmt.Errorf("user %s has the same token", quote(other)),
					`run "adit token" once for each user, so that a token says whose it is`)
			default:
				acct.secret = &s
				tokens[s.sum] = def.Name
				u.tokens = append(u.tokens, acct)
			}
		}
		if def.CertName != "" {
			if other := u.byCert[def.CertName]; other != nil {
				fault("cert-name", fmt.Errorf("user %s has the same cert-name", quote(other.identity.Name)),
					"a certificate must say whose it is: give each user another cert-name")
			} else {
				u.byCert[def.CertName] = acct
			}
		}
		if def.MaxSessions < 0 {
			fault("max-sessions", fmt.Errorf("%d is negative", def.MaxSessions), "use 0 for the server's default")
		}
		policy, bad := parsePolicy(def.Allow)
		for _, e := range bad {
			fault("allow", e, "")
		}
		acct.identity.Policy = policy
		u.byName[def.Name] = acct
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return u, nil
}

// Len returns how many users there are.
func (u *Users) Len() int {
	if u == nil {
		return 0
	}
	return len(u.byName)
}

func badName(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > maxName:
		return fmt.Sprintf("the name is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return "the name is not UTF-8"
	case strings.Contains(name, ":"):
		return "the name has a colon, which separates name and password (RFC 7617)"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "the name has a control character"
	}
	return ""
}

// byToken finds whose token this is. It compares with every user's hash in
// constant time: the time says nothing about how much of a guess is right.
func (u *Users) byToken(token string) *account {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range u.tokens {
		same := subtle.ConstantTimeCompare(u.tokens[i].secret.sum[:], sum[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return nil
	}
	return u.tokens[found]
}

// Lookup returns the user of a name, or nil.
func (u *Users) Lookup(name string) *Identity {
	if u == nil {
		return nil
	}
	if acct := u.byName[name]; acct != nil {
		return acct.identity
	}
	return nil
}
