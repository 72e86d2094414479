package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
)

// maxAuthorization bounds the header that is decoded and hashed, in bytes.
const maxAuthorization = 4096

// Credentials are what a peer presented.
type Credentials struct {
	// Authorization is the value of the request's only Authorization field:
	// "Bearer TOKEN" (RFC 6750) or "Basic BASE64" (RFC 7617); "" if there is
	// none. The caller must refuse a request with more than one such field.
	Authorization string
	// CertNames are the names in the peer's client certificate. It must be
	// empty unless the certificate's chain was verified.
	CertNames []string
	// Addr is the peer's address, to which the PasswordLimiter charges wrong
	// passwords. Peers with the zero Addr share one allowance.
	Addr netip.Addr
}

// Authenticate returns the identity of the user whose credentials c holds, and
// the proof of the credential that counts: the Authorization if there is one,
// else the certificate's name. The error wraps ErrNoCredentials or ErrRejected, and also ErrThrottled if the
// password limiter refused the check. Its text is for the log, never for the
// peer; it names only users that exist.
//
// Basic takes a user's name with the password or the token. An unknown name
// costs the same time as a wrong password. If a certificate and an
// Authorization are presented together, both must be valid and belong to the
// same user; a certificate that names no user is then ignored, because the TLS
// layer may require one of everybody.
//
// Authenticate may block for PasswordLimiterOptions.MaxWait plus the time of a
// bcrypt check.
func (u *Users) Authenticate(c Credentials) (*Identity, Proof, error) {
	if c.Authorization == "" && len(c.CertNames) == 0 {
		return nil, Proof{}, ErrNoCredentials
	}
	if u == nil {
		return nil, Proof{}, reject("no users are configured")
	}
	holder, err := u.certHolder(c.CertNames)
	if err != nil {
		return nil, Proof{}, err
	}
	if c.Authorization == "" {
		if holder == nil {
			return nil, Proof{}, reject("the certificate names no user: its names are %s", quote(strings.Join(c.CertNames, ", ")))
		}
		return holder.identity, holder.certProof(), nil
	}
	acct, by, err := u.authorized(c.Authorization, c.Addr)
	if err != nil {
		return nil, Proof{}, err
	}
	if holder != nil && holder != acct {
		return nil, Proof{}, reject("certificate of user %q with the credentials of user %q",
			holder.identity.Name, acct.identity.Name)
	}
	return acct.identity, by.proof(), nil
}

// reject returns an error that wraps ErrRejected and says why.
func reject(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRejected}, args...)...)
}

// certHolder returns the user that a certificate with these names belongs to,
// or nil if it names no user. A certificate that names two users is rejected.
func (u *Users) certHolder(names []string) (*account, error) {
	var found *account
	for _, name := range names {
		acct := u.byCert[name]
		if acct == nil || acct == found {
			continue
		}
		if found != nil {
			return nil, reject("the certificate names two users, %q and %q",
				found.identity.Name, acct.identity.Name)
		}
		found = acct
	}
	return found, nil
}

// authorized returns the user whose credentials an Authorization field holds, and
// which of the user's secrets it has.
func (u *Users) authorized(header string, addr netip.Addr) (*account, *secret, error) {
	if len(header) > maxAuthorization {
		return nil, nil, reject("Authorization is longer than %d bytes", maxAuthorization)
	}
	scheme, value, _ := strings.Cut(header, " ")
	value = strings.Trim(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if t := u.byToken(value); t.acct != nil {
			return t.acct, t.secret, nil
		}
		return nil, nil, reject("unknown token")
	case strings.EqualFold(scheme, "Basic"):
		name, password, ok := parseBasic(value)
		if !ok {
			return nil, nil, reject("malformed Basic credentials")
		}
		return u.basic(name, password, addr)
	}
	return nil, nil, reject("the Authorization scheme is neither Bearer nor Basic")
}

// parseBasic decodes the user-id and password of Basic credentials.
func parseBasic(value string) (name, password string, ok bool) {
	// RFC 7617 requires padding, but some clients omit it.
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}

// basic returns the user with this name if the password is one of the user's
// passwords or tokens, and which one. Every failure costs the same time, whether
// the name is unknown or the user has tokens, password hashes of any number and
// cost, or only a certificate.
func (u *Users) basic(name, password string, addr netip.Addr) (*account, *secret, error) {
	acct := u.byName[name]
	reason := "unknown name"
	if acct != nil {
		reason = fmt.Sprintf("wrong password for user %q", name)
		if s := acct.token(password); s != nil {
			return acct, s, nil
		}
	}
	if u.topCost == 0 {
		// No user has a password, so there is none to guess.
		return nil, nil, reject("%s", reason)
	}
	done, err := u.limiter.admit(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	var found *secret
	defer func() { done(found != nil) }()
	if found = u.password(acct, []byte(password)); found == nil {
		return nil, nil, reject("%s", reason)
	}
	return acct, found, nil
}

// token returns the account's secret that is this token's sum, or nil.
func (a *account) token(token string) *secret {
	sum := sha256.Sum256([]byte(token))
	for _, s := range a.secrets {
		if s.bcrypt == nil && subtle.ConstantTimeCompare(s.sum[:], sum[:]) == 1 {
			return s
		}
	}
	return nil
}

// password returns the account's secret that is this password's hash, or nil. acct
// may be nil. Without a match it takes the time of as many checks as the user with
// the most passwords needs.
func (u *Users) password(acct *account, password []byte) *secret {
	checks := 0
	if acct != nil {
		for _, s := range acct.secrets {
			if s.bcrypt == nil {
				continue
			}
			if s.matches(password, u.topCost) {
				return s
			}
			checks++
		}
	}
	for ; checks < u.passwords; checks++ {
		burn(u.topCost, password)
	}
	return nil
}
