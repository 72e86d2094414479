package config

import (
	"errors"
	"fmt"
	"strings"
)

// Error is a bad value: what is wrong with it, and what a right one looks
// like.
type Error struct {
	Text string // names the bad part, e.g. `port "http" is not a number`
	hint string
}

func (e *Error) Error() string { return e.Text }

// Hint is one sentence with a correct example; it may be empty.
func (e *Error) Hint() string { return e.hint }

// bad makes an *Error. The hint comes first because it is fixed text.
func bad(hint, format string, args ...any) error {
	return &Error{Text: fmt.Sprintf(format, args...), hint: hint}
}

// HintOf returns the hint of the first error in err's chain that has a method
// Hint, as those of this package do, or "".
func HintOf(err error) string {
	var e interface {
		error
		Hint() string
	}
	if errors.As(err, &e) {
		return e.Hint()
	}
	return ""
}

// Fault is one thing wrong with the configuration.
type Fault struct {
	// Origin is where the value came from: "server.toml:12: tls.cert",
	// "--tls-cert", "ADIT_TLS_CERT", or the bare key when nobody set it.
	Origin string
	Err    error
}

func (f Fault) Error() string { return f.Origin + ": " + f.Err.Error() }
func (f Fault) Unwrap() error { return f.Err }

// Faults is every fault found, in the order found. A nil or empty Faults is
// not an error: use Err to convert.
type Faults []Fault

// Add appends a fault.
func (fs *Faults) Add(origin string, err error) {
	*fs = append(*fs, Fault{Origin: origin, Err: err})
}

// Err returns nil when there are no faults, so that a typed nil never escapes
// as a non-nil error.
func (fs Faults) Err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}
