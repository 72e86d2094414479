package config

import (
	"strings"

	"adit/internal/hint"
)

// bad makes the error of a wrong value. The hint comes first because it is fixed
// text.
func bad(advice, format string, args ...any) error {
	return hint.Errorf(advice, format, args...)
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
