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

// Fault is one fault of the configuration.
type Fault struct {
	// Origin is where the value came from: "server.toml:12: tls.cert",
	// "--tls-cert", "ADIT_TLS_CERT", or the key alone when it is not set.
	Origin string
	Err    error
}

func (f Fault) Error() string { return f.Origin + ": " + f.Err.Error() }
func (f Fault) Unwrap() error { return f.Err }

// Faults are all faults, in the order in which they were found. An empty Faults
// is no error: convert it with Err.
type Faults []Fault

// Add appends a fault.
func (fs *Faults) Add(origin string, err error) {
	*fs = append(*fs, Fault{Origin: origin, Err: err})
}

// Err returns fs as an error, nil when there are no faults.
func (fs Faults) Err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

// Error returns one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}
