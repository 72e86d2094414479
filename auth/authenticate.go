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
	// "Bearer TOKEN" (RFC 6750) or "Basic BASE64" (RFC 7617), "" when there is
	// none. A request with two such fields is for the caller to refuse.
	Authorization string
	// CertNames are the names in the peer's client certificate, and only if
	// its chain was verified; otherwise it must be empty.
	CertNames []string
	// Addr is where the peer comes from; it counts for the Guard. The zero
	// value is one shared "address".
	Addr netip.Addr
}

// Authenticate finds out who presents c. The error wraps ErrNoCredentials or
// ErrRejected (with ErrThrottled when the guard refused to look); its text is
// for the log, never for the peer, and names only users that exist.
//
// Basic takes a name with its password, or a name with its token. A name that
// does not exist costs the same time as a wrong password. If a certificate and
// an Authorization are presented together, both must be good and belong to the
// same user, unless the certificate names no user at all: then it is only the
// entrance ticket that the TLS layer asked for.
//
// It may block for GuardOptions.MaxWait and the time of a bcrypt check.
func (u *Users) Authenticate(c Credentials) (*Identity, error) {
	if c.Authorization == "" && len(c.CertNames) == 0 {
		return nil, ErrNoCredentials
	}
	if u == nil {
		return nil, reject("there are no users")
	}
	holder, err := u.holder(c.CertNames)
	if err != nil {
		return nil, err
	}
	if c.Authorization == "" {
		if holder == nil {
			return nil, reject("the certificate names no user")
		}
		return holder.identity, nil
	}
	acct, err := u.authorized(c.Authorization, c.Addr)
	if err != nil {
		return nil, err
	}
	if holder != nil && holder != acct {
		return nil, reject("certificate of user %q with the credentials of user %q",
			holder.identity.Name, acct.identity.Name)
	}
	return acct.identity, nil
}

func reject(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRejected}, args...)...)
}

// holder finds the user that a certificate names: nil when none.
func (u *Users) holder(names []string) (*account, error) {
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

func (u *Users) authorized(header string, addr netip.Addr) (*account, error) {
	if len(header) > maxAuthorization {
		return nil, reject("Authorization longer than %d bytes", maxAuthorization)
	}
	scheme, value, _ := strings.Cut(header, " ")
	value = strings.Trim(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if acct := u.byToken(value); acct != nil {
			return acct, nil
		}
		return nil, reject("unknown token")
	case strings.EqualFold(scheme, "Basic"):
		name, password, ok := parseBasic(value)
		if !ok {
			return nil, reject("malformed Basic credentials")
		}
		return u.basic(name, password, addr)
	}
	return nil, reject("neither Bearer nor Basic")
}

func parseBasic(value string) (name, password string, ok bool) {
	// Padding is required by RFC 7617 and forgotten by some clients.
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}

// basic checks a name with its token or its password. Every failure costs the
// same, whether the name is unknown, has a token, a password of any cost, or a
// certificate only.
func (u *Users) basic(name, password string, addr netip.Addr) (*account, error) {
	acct := u.byName[name]
	hasSecret := acct != nil && acct.secret != nil
	if hasSecret && acct.secret.bcrypt == nil {
		sum := sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(acct.secret.sum[:], sum[:]) == 1 {
			return acct, nil
		}
	}
	who := "unknown name"
	if acct != nil {
		who = fmt.Sprintf("wrong password for user %q", name)
	}
	if u.topCost == 0 {
		return nil, reject("%s", who) // no password exists: nothing to guess, nothing to slow down
	}
	done, err := u.guard.admit(addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	right := false
	defer func() { done(right) }()
	if hasSecret && acct.secret.bcrypt != nil {
		right = acct.secret.matches([]byte(password), u.topCost)
	} else {
		burn(u.topCost, []byte(password))
	}
	if !right {
		return nil, reject("%s", who)
	}
	return acct, nil
}
