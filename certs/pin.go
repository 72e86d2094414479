package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469). It
// stays the same when the certificate is renewed with the same key.
type Pin [sha256.Size]byte

const pinPrefix = "sha256:"

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin parses "sha256:BASE64", or curl's form "sha256//BASE64". The error
// is an *Error.
func ParsePin(s string) (Pin, error) {
	text, ok := strings.CutPrefix(s, pinPrefix)
	if !ok {
		text, ok = strings.CutPrefix(s, "sha256//")
	}
	if !ok {
		return Pin{}, pinFault(s, errors.New(`it does not start with "sha256:"`))
	}
	// Strict decoding gives every pin one spelling, but for the padding.
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
		hint: `"adit pin HOST" or "adit pin FILE" prints one: "sha256:" and 44 characters of base64; a certificate's hexadecimal fingerprint is not a pin`}
}

// String returns "sha256:BASE64".
func (p Pin) String() string { return pinPrefix + base64.StdEncoding.EncodeToString(p[:]) }

// PinMismatchError means that the server's key is not one of the pinned keys.
type PinMismatchError struct {
	Got  Pin
	Want []Pin
}

func (e *PinMismatchError) Error() string {
	want := make([]string, len(e.Want))
	for i, p := range e.Want {
		want[i] = p.String()
	}
	return fmt.Sprintf("the server's key has the pin %s, expected %s", e.Got, strings.Join(want, " or "))
}

// Hint warns of interception and names the pin to use if the new key is
// confirmed.
func (e *PinMismatchError) Hint() string {
	return fmt.Sprintf("someone may be intercepting this connection, or the server has a new key; use the pin %s only if the server's operator confirms it through another channel", e.Got)
}
