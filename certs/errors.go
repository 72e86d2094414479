package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"adit/internal/textfile"
)

// Error is an error in a file or an option that the user can correct.
type Error struct {
	Step string // the failing step: "certificate", "key", "CA file", "ACME" …
	File string // the file or domain concerned; may be empty
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

// fault returns an *Error with a hint.
func fault(step, file, hint, format string, args ...any) *Error {
	return &Error{Step: step, File: file, Err: fmt.Errorf(format, args...), hint: hint}
}

// maxFile bounds the size of a file, in bytes. A system's CA bundle has some
// hundred kilobytes.
const maxFile = 16 << 20

// readFile reads a regular file of bounded size.
func readFile(step, name string) ([]byte, error) {
	wrap := func(err error) error {
		// An *fs.PathError would repeat the file's name.
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return &Error{Step: step, File: name, Err: err, hint: readHint(err)}
	}
	// Stat precedes Open, because opening a FIFO blocks.
	info, err := os.Stat(name)
	if err != nil {
		return nil, wrap(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault(step, name, "give the path of a PEM file", "not a regular file")
	}
	text, err := textfile.Read(name, maxFile)
	if err != nil {
		return nil, wrap(err)
	}
	return text, nil
}

func readHint(err error) string {
	var encoding *textfile.EncodingError
	switch {
	case errors.As(err, &encoding):
		return encoding.Hint()
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; relative paths start at the directory in which adit was started"
	case errors.Is(err, fs.ErrPermission):
		return "let adit's user read the file and enter its directories, for example through a group"
	}
	return "check that the file can be read"
}
