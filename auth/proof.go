package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// Proof tells by which of a user's credentials somebody was known, for as long as
// it is good and the process lives: see Users.Proved. It is a digest with a random
// key of the process, from which nobody learns the credential.
type Proof [16]byte

var proofKey = func() (key [32]byte) {
	rand.Read(key[:]) // never fails
	return key
}()

// Kinds of credentials, so that none passes for one of another kind.
const (
	proofByToken    = "token"
	proofByPassword = "password"
	proofByCert     = "certificate"
)

func newProof(kind string, value []byte) Proof {
	mac := hmac.New(sha256.New, proofKey[:])
	mac.Write([]byte(kind + "\x00"))
	mac.Write(value)
	return Proof(mac.Sum(nil)[:len(Proof{})])
}

func (s *secret) proof() Proof {
	if s.bcrypt != nil {
		return newProof(proofByPassword, s.bcrypt)
	}
	return newProof(proofByToken, s.sum[:])
}

// Proof returns by what Authenticate has known the user who presented c: the
// Authorization, if there is one, and otherwise the name in the certificate.
func (u *Users) Proof(user *Identity, c Credentials) Proof {
	acct := u.byName[user.Name]
	if c.Authorization != "" {
		return acct.secret.proof()
	}
	return newProof(proofByCert, []byte(acct.certName))
}

// Proved returns the user of a name if p tells of a credential that the user
// still has, and else nil. A password that is hashed anew counts as another one.
func (u *Users) Proved(name string, p Proof) *Identity {
	if u == nil {
		return nil
	}
	acct := u.byName[name]
	if acct == nil {
		return nil
	}
	if acct.secret != nil && acct.secret.proof() == p ||
		acct.certName != "" && newProof(proofByCert, []byte(acct.certName)) == p {
		return acct.identity
	}
	return nil
}
