package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo (as in RFC 7469):
// it stays the same when the certificate is renewed with the same key.
type Pin [sha256.Size]byte

const pinPrefix = "sha256:"

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin reads "sha256:BASE64"; curl's "sha256//BASE64" is understood, too.
// The error is an *Error.
func ParsePin(s string) (Pin, error) {
	text, ok := strings.CutPrefix(s, pinPrefix)
	if !ok {
		text, ok = strings.CutPrefix(s, "sha256//")
	}
	if !ok {
		return Pin{}, pinFault(s, errors.New(`it does not start with "sha256:"`))
	}
	// Strict, so that a pin has one spelling; the padding may be missing.
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimSuffix(text, "="))
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return Pin{}, pinFault(s, errors.New("it is not base64"))
	}
	if len(raw) != sha256.Size {
		return Pin{}, pinFault(s, fmt.Errorf("it has %d bytes, not %d", len(raw), sha256.Size))
	}
	return Pin(raw), nil
}

func pinFault(s string, err error) error {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return &Error{Step: "pin", File: fmt.Sprintf("%q", s), Err: err,
		hint: `"adit pin HOST" or "adit pin FILE" prints one: "sha256:" and 44 characters of base64; a certificate's hexadecimal fingerprint is something else`}
}

// String returns "sha256:BASE64".
func (p Pin) String() string { return pinPrefix + base64.StdEncoding.EncodeToString(p[:]) }

// PinMismatchError says that the server has another key than the pinned ones.
type PinMismatchError struct {
	Got  Pin
	Want []Pin
}

func (e *PinMismatchError) Error() string {
	want := make([]string, len(e.Want))
	for i, p := range e.Want {
		want[i] = p.String()
	}
	return fmt.Sprintf("the server's key has the pin %s, pinned is %s", e.Got, strings.Join(want, " or "))
}

// Hint warns, and names the pin to use if the new key is known to be good.
func (e *PinMismatchError) Hint() string {
	return fmt.Sprintf("someone may be intercepting this connection, or the server has a new key; only if its operator confirms the new key by another way, use the pin %s", e.Got)
}
