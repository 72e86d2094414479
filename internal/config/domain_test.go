package config

import (
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
