package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
)

// Proof identifies the credential by which a user was authenticated, so that
// Users.Proved can tell after a reload whether the user still has it. It is an
// HMAC under a random key of this process: it reveals nothing about the
// credential and means nothing to another process.
type Proof [16]byte

var proofKey = func() (key [32]byte) {
	rand.Read(key[:]) // never fails
	return key
}()

// Kinds of credentials. They are part of the digest, so that a credential of
// one kind never proves one of another.
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

// proof returns the proof of the token or the password hash.
func (s *secret) proof() Proof {
	if s.bcrypt != nil {
		return newProof(proofByPassword, s.bcrypt)
	}
	return newProof(proofByToken, s.sum[:])
}

// certProof returns the proof of the account's certificate name.
func (a *account) certProof() Proof { return newProof(proofByCert, []byte(a.certName)) }

// Proved returns the user with this name if p is the proof of a credential
// that the user still has, else nil. The same password with a new hash counts
// as another credential.
func (u *Users) Proved(name string, p Proof) *Identity {
	if u == nil {
		return nil
	}
	acct := u.byName[name]
	if acct == nil {
		return nil
	}
	if acct.certName != "" && acct.certProof() == p ||
		slices.ContainsFunc(acct.secrets, func(s *secret) bool { return s.proof() == p }) {
		return acct.identity
	}
	return nil
}
