package certs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Error is a fault in a file or an option that the user can mend.
type Error struct {
	Step string // what was tried: "certificate", "key", "CA file", "ACME" …
	File string // the file at fault, or a domain; may be empty
	Err  error

	hint string
}

func (e *Error) Error() string {
	if e.File == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Step, e.File, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says in one sentence what to do.
func (e *Error) Hint() string { return e.hint }

func fault(step, file, hint, format string, args ...any) *Error {
	return &Error{Step: step, File: file, Err: fmt.Errorf(format, args...), hint: hint}
}

// maxFile bounds the files read, in bytes: the CA bundles of systems have
// some hundred kilobytes.
const maxFile = 16 << 20

// readFile reads a regular file of bounded size.
func readFile(step, name string) ([]byte, error) {
	wrap := func(err error) error {
		// The *fs.PathError would repeat the name.
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return &Error{Step: step, File: name, Err: err, hint: readHint(err)}
	}
	// Before opening: a FIFO would block.
	info, err := os.Stat(name)
	if err != nil {
		return nil, wrap(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault(step, name, "give the path of a PEM file", "not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, wrap(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, wrap(err)
	}
	if len(b) > maxFile {
		return nil, fault(step, name, "give the path of a PEM file", "larger than %d MiB", maxFile>>20)
	}
	return b, nil
}

func readHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; a relative path starts from the directory that the program was started in"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that adit runs as read the file and enter its directories, for example by a group"
	}
	return "check that the file can be read"
}
