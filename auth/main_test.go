package auth

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hinted fails the test unless err has a hint.
func hinted(t *testing.T, err error) {
	t.Helper()
	h, ok := err.(interface{ Hint() string })
	if !ok || h.Hint() == "" {
		t.Errorf("%T has no hint: %v", err, err)
	}
}

// unjoin returns the errors inside an errors.Join, or err itself.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
