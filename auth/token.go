package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	tokenPrefix = "adit_"
	hashPrefix  = "sha256:"

	// maxCost bounds the cost of a bcrypt hash. At 15 one check takes about
	// two seconds of CPU time; each step doubles it.
	maxCost = 15

	// maxPassword is how many bytes of a password bcrypt uses; it ignores the
	// rest.
	maxPassword = 72
)

// NewToken returns a new token: "adit_" and 256 random bits in base64url.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// HashToken returns the form of a token that a configuration holds: "sha256:"
// and 64 hexadecimal digits. It is safe for tokens from NewToken only: a
// password that a person chose can be guessed and needs bcrypt.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// secret is a parsed token-hash: a token's SHA-256, or a bcrypt hash.
type secret struct {
	sum    [sha256.Size]byte
	bcrypt []byte // nil: a token's sum
	cost   int    // of bcrypt
}

// hashError says why a token-hash is invalid. It never contains the text,
// which may be a secret pasted into the wrong place.
type hashError struct{ reason, hint string }

func (e *hashError) Error() string { return e.reason }

// Hint says how to get a valid hash.
func (e *hashError) Hint() string { return e.hint }

func parseHash(text string) (secret, error) {
	switch {
	case strings.HasPrefix(text, tokenPrefix):
		return secret{}, &hashError{"this is a token, not its hash",
			`the token belongs on the client; put the token-hash that "adit token" printed here, and make a new token if others could read this file`}
	case strings.HasPrefix(text, hashPrefix):
		sum, err := hex.DecodeString(text[len(hashPrefix):])
		if err != nil || len(sum) != sha256.Size {
			return secret{}, &hashError{`"sha256:" must be followed by 64 hexadecimal digits`,
				`copy the whole token-hash line that "adit token" prints`}
		}
		return secret{sum: [sha256.Size]byte(sum)}, nil
	case strings.HasPrefix(text, "$2"):
		return parseBcrypt(text)
	}
	return secret{}, &hashError{`neither "sha256:…" nor a bcrypt hash "$2…"`,
		`run "adit token" for a token and its hash, or "htpasswd -nB NAME" for a password (the part after the colon)`}
}

func parseBcrypt(text string) (secret, error) {
	malformed := &hashError{"malformed bcrypt hash",
		`a bcrypt hash has 60 characters and starts with $2a$, $2b$ or $2y$; "htpasswd -nB NAME" prints one after the colon`}
	// $2y$10$, 22 characters of salt and 31 of hash. The bcrypt package parses
	// the cost leniently, so the format is checked here.
	if len(text) != 60 || !strings.ContainsRune("aby", rune(text[2])) || text[3] != '$' || text[6] != '$' ||
		!isDigits(text[4:6]) || strings.Trim(text[7:], bcryptAlphabet) != "" {
		return secret{}, malformed
	}
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil {
		return secret{}, malformed
	}
	if cost > maxCost {
		return secret{}, &hashError{fmt.Sprintf("bcrypt cost %d is more than %d", cost, maxCost),
			"hash the password again with a cost from 10 to 12: at this cost each login takes seconds of CPU time"}
	}
	return secret{bcrypt: []byte(text), cost: cost}, nil
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// compare checks a password; tests replace it to count the work.
var compare = bcrypt.CompareHashAndPassword

// burn takes exactly the time of a password check at this cost, and no
// password matches.
func burn(cost int, password []byte) {
	password = password[:min(len(password), maxPassword)]
	_ = compare(fmt.Appendf(nil, "$2a$%02d$%053d", cost, 0), password)
}

// matches reports whether the hash is the password's. A wrong password takes
// the time of a check at cost top, which is at least the hash's own cost, so
// that the time does not distinguish a user with a cheap hash from an unknown
// name.
func (s *secret) matches(password []byte, top int) bool {
	tooLong := len(password) > maxPassword
	password = password[:min(len(password), maxPassword)]
	err := compare(s.bcrypt, password)
	if err == nil && !tooLong {
		return true
	}
	// 2^c + 2^c + 2^(c+1) + … + 2^(top-1) = 2^top.
	for c := s.cost; c < top; c++ {
		burn(c, password)
	}
	return false
}
