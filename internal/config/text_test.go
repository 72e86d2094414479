package config

import (
	"io/fs"
	"strings"
	"testing"

	"adit/internal/hint"
)

// An IP address is named as such, and not for a missing or excess dot.
func TestACMEDomainWithAddress(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "[2001:db8::1]"} {
		_, err := domain(s)
		if err == nil || !strings.Contains(err.Error(), "is an IP address") || !strings.Contains(hint.Of(err), "--self-signed") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestFileMode(t *testing.T) {
	for s, want := range map[string]fs.FileMode{"0660": 0o660, "666": 0o666} {
		if got, err := fileMode(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0o660", "rw", "1777", "0060", "0888", "-1"} {
		if _, err := fileMode(s); err == nil || hint.Of(err) == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
}
