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
// TokenHashes and CertName must be set; either of them suffices to log in.
type User struct {
	// Name appears in logs and is the user-id of Basic credentials: 1 to 128
	// bytes, without colons and control characters. Unique.
	Name string
	// TokenHashes are "sha256:HEX" of tokens (see HashToken), or bcrypt hashes
	// of passwords ("$2a$", "$2b$" or "$2y$", cost at most 15). Each suffices
	// to log in: while a token is replaced, the old and the new one do. At
	// most 8, of which at most 2 of passwords.
	TokenHashes []string
	// CertName is a name in a verified client certificate, compared byte for
	// byte. Unique.
	CertName string
	// Allow holds the policy's rules; an empty list allows nothing. See
	// ParsePolicy.
	Allow []string
	// MaxSessions bounds how many sessions the user has at once; 0 means the
	// server's default.
	MaxSessions int
}

// Identity is an authenticated user. It is shared and must not be changed.
type Identity struct {
	Name        string
	Policy      *Policy
	MaxSessions int // 0: the server's default
}

// Users holds all users of a server. It is immutable; a reload makes a new
// one. A nil Users rejects everyone.
type Users struct {
	tokens    []userToken
	byName    map[string]*account
	byCert    map[string]*account
	topCost   int // the highest bcrypt cost; 0 if nobody has a password
	passwords int // the highest number of passwords that a user has
	limiter   *PasswordLimiter
}

type account struct {
	identity *Identity
	secrets  []*secret // empty: certificate only
	certName string    // "": none
}

// userToken is a secret that is a token's SHA-256, and whose it is.
type userToken struct {
	*secret
	acct *account
}

// Bounds of User.TokenHashes. Each password that a user may have multiplies the
// time of checking a wrong one, for every user.
const (
	maxHashes    = 8
	maxPasswords = 2
)

// Option changes a setting of NewUsers.
type Option func(*Users)

// WithPasswordLimiter makes the users share a limiter, as a server does across
// reloads. Without it NewUsers makes a limiter with default bounds.
func WithPasswordLimiter(l *PasswordLimiter) Option { return func(u *Users) { u.limiter = l } }

const maxName = 128

// NewUsers checks the definitions and builds the set. The error joins every
// fault found (errors.Join), each a *UserError with a hint. An empty list is
// not an error: the set then rejects everyone.
func NewUsers(list []User, opts ...Option) (*Users, error) {
	u := &Users{byName: make(map[string]*account), byCert: make(map[string]*account)}
	for _, o := range opts {
		o(u)
	}
	if u.limiter == nil {
		u.limiter = NewPasswordLimiter(PasswordLimiterOptions{})
	}
	var errs []error
	byHash := make(map[[sha256.Size]byte]*account)
	for i, def := range list {
		u.add(def, byHash, func(field string, err error, hint string) {
			errs = append(errs, &UserError{Index: i, Name: def.Name, Field: field, Err: err, hint: hint})
		})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return u, nil
}

// reportFault is called with each fault in a user's definition: the key at
// fault, the cause, and a hint unless the cause has one.
type reportFault func(field string, err error, hint string)

// add checks one definition and adds the user. byHash holds the accounts with
// tokens added so far.
func (u *Users) add(def User, byHash map[[sha256.Size]byte]*account, fault reportFault) {
	acct := &account{identity: &Identity{Name: def.Name, MaxSessions: def.MaxSessions}, certName: def.CertName}
	if reason := badName(def.Name); reason != "" {
		fault("name", errors.New(reason), `give every user a short name of its own, such as name = "alice"`)
	} else if u.byName[def.Name] != nil {
		fault("name", errors.New("two users have this name"), "rename one of them, or merge their rules")
	}
	if len(def.TokenHashes) == 0 && def.CertName == "" {
		fault("token-hash", errors.New("neither token-hash nor cert-name is set, so the user cannot log in"),
			`run "adit token" and paste the token-hash line, or set cert-name`)
	}
	if len(def.TokenHashes) > maxHashes {
		fault("token-hash", fmt.Errorf("there are %d, more than %d", len(def.TokenHashes), maxHashes), "remove the hashes of tokens that are no longer used")
	}
	for _, hash := range def.TokenHashes {
		u.addSecret(acct, hash, byHash, fault)
	}
	if other := u.byCert[def.CertName]; other != nil {
		fault("cert-name", fmt.Errorf("user %s has the same cert-name", quote(other.identity.Name)),
			"give each user another cert-name: a certificate must identify its user")
	} else if def.CertName != "" {
		u.byCert[def.CertName] = acct
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

// addSecret parses a token-hash into the account.
func (u *Users) addSecret(acct *account, tokenHash string, byHash map[[sha256.Size]byte]*account, fault reportFault) {
	s, err := parseHash(tokenHash)
	other := byHash[s.sum]
	switch {
	case err != nil:
		fault("token-hash", err, "")
	case s.bcrypt != nil:
		acct.secrets = append(acct.secrets, &s)
		u.topCost = max(u.topCost, s.cost)
		n := acct.passwords()
		u.passwords = max(u.passwords, n)
		if n == maxPasswords+1 {
			fault("token-hash", fmt.Errorf("there are more than %d bcrypt hashes", maxPasswords), "remove those of passwords that are no longer used")
		}
	case other == acct:
		fault("token-hash", errors.New("the same hash is listed twice"), "remove one of them")
	case other != nil:
		fault("token-hash", fmt.Errorf("user %s has the same token", quote(other.identity.Name)),
			`run "adit token" once for each user: a token must identify its user`)
	default:
		acct.secrets = append(acct.secrets, &s)
		byHash[s.sum] = acct
		u.tokens = append(u.tokens, userToken{&s, acct})
	}
}

// passwords returns how many of the account's secrets are passwords.
func (a *account) passwords() int {
	n := 0
	for _, s := range a.secrets {
		if s.bcrypt != nil {
			n++
		}
	}
	return n
}

// Len returns how many users there are.
func (u *Users) Len() int {
	if u == nil {
		return 0
	}
	return len(u.byName)
}

// badName returns why a user may not have this name, or "".
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

// byToken returns this token's entry, or the zero one. It compares the hash
// with every user's in constant time, so that the time tells nothing about how
// close a guess is.
func (u *Users) byToken(token string) userToken {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range u.tokens {
		same := subtle.ConstantTimeCompare(u.tokens[i].sum[:], sum[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return userToken{}
	}
	return u.tokens[found]
}

// Lookup returns the user with this name, or nil.
func (u *Users) Lookup(name string) *Identity {
	if u == nil {
		return nil
	}
	if acct := u.byName[name]; acct != nil {
		return acct.identity
	}
	return nil
}
