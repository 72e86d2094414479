package main

import (
	"errors"
	"io/fs"
	"log/slog"
)

// withHint gives an error whose hint is a field the method that reports look
// for.
func withHint(err error) error {
	if hint := hintOf(err); hint != "" {
		return &hinted{err, hint}
	}
	return err
}

// fileHint adds to an error about a file what to do, if it does not say.
func fileHint(err error, otherwise string) error {
	if hintOf(err) != "" {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &hinted{err, "check the path"}
	case errors.Is(err, fs.ErrPermission):
		return &hinted{err, "let the user that adit runs as read the file"}
	}
	return &hinted{err, otherwise}
}

// unjoin returns the errors inside an errors.Join, or err alone.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// logFault writes an error and its hint as one line.
func logFault(log *slog.Logger, msg string, err error) {
	args := []any{"error", err}
	if hint := hintOf(err); hint != "" {
		args = append(args, "hint", hint)
	}
	log.Error(msg, args...)
}
