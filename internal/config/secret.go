package config

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"adit/internal/textfile"
)

// Secret is a token or password. It prints as "(secret)", to keep it out of
// messages and logs.
type Secret string

// String keeps the secret out of fmt.
func (Secret) String() string { return "(secret)" }

// GoString keeps the secret out of fmt's %#v.
func (Secret) GoString() string { return "(secret)" }

// LogValue keeps the secret out of slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText keeps the secret out of encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// ParseSecret checks a token or password: one line, not empty, printable.
func ParseSecret(s string) (Secret, error) {
	const hint = "it is one line of printable text, as `adit token` prints between the quotes"
	s = strings.TrimRight(s, "\r\n")
	if s == "" {
		return "", bad(hint, "the secret is empty")
	}
	if len(s) > 4096 {
		return "", bad(hint, "the secret is longer than 4096 bytes")
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return "", bad(hint, "the secret has several lines or contains a control character")
		}
	}
	return Secret(s), nil
}

// ReadSecret reads a token file: the token alone, or the line token = "…" that
// adit token prints. The error never shows the content.
func ReadSecret(file string) (Secret, error) {
	data, err := textfile.Read(file, maxFile)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(data))
	for line := range strings.Lines(s) {
		name, val, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "token" {
			s = strings.Trim(strings.TrimSpace(val), `"`)
			break
		}
	}
	sec, err := ParseSecret(s)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", file, err)
	}
	return sec, nil
}

// ReadableByOthers reports whether the file's mode lets users other than its
// owner and group read it.
func ReadableByOthers(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0
}
