// Package hint lets an error carry what to do about it.
//
// The text of an error says what failed, at which step, with which input. The
// hint is one more line for the user: what to change, with an example. The
// command prints it below the error, and the log has it as the attribute "hint".
//
// Every error with a method
//
//	Hint() string
//
// carries a hint. Packages that import none of ours (auth, certs, tunnel/dial)
// define that method on their own error types; all others use With or Errorf.
package hint

import (
	"errors"
	"fmt"
	"io/fs"
)

// hinted is an error with a hint.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }

// With returns err with a hint. It hides the hints of the errors that err wraps,
// unless hint is empty.
func With(err error, hint string) error { return &hinted{err, hint} }

// Errorf returns an error with the text that fmt.Errorf makes, and a hint.
func Errorf(hint, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), hint}
}

// Of returns the hint of the outermost error in err's chain that has one, or "".
func Of(err error) string {
	var e interface {
		error
		Hint() string
	}
	for errors.As(err, &e) {
		if h := e.Hint(); h != "" {
			return h
		}
		err = errors.Unwrap(e)
	}
	return ""
}

// File returns an error about a file with a hint: its own, what helps against a
// missing or unreadable file, or else otherwise.
func File(err error, otherwise string) error {
	switch {
	case Of(err) != "":
		return err
	case errors.Is(err, fs.ErrNotExist):
		otherwise = "check the path"
	case errors.Is(err, fs.ErrPermission):
		otherwise = "let the user that adit runs as read the file"
	}
	return With(err, otherwise)
}

// Attrs returns err, and its hint if it has one, as attributes of a log line.
func Attrs(err error) []any {
	attrs := []any{"error", err}
	if h := Of(err); h != "" {
		attrs = append(attrs, "hint", h)
	}
	return attrs
}
