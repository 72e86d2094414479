package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"adit/internal/hint"
)

// stepError has the method and nothing else, as error types of packages that do
// not import this one.
type stepError struct {
	cause error
	hint  string
}

func (e *stepError) Error() string { return "step: " + e.cause.Error() }
func (e *stepError) Unwrap() error { return e.cause }
func (e *stepError) Hint() string  { return e.hint }

func TestOfFindsTheOutermostHint(t *testing.T) {
	cause := hint.Errorf("inner", "port %d: %w", 443, fs.ErrPermission)
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, ""},
		{"none", errors.New("x"), ""},
		{"Errorf", cause, "inner"},
		{"wrapped", fmt.Errorf("listen: %w", cause), "inner"},
		{"joined", errors.Join(errors.New("x"), cause), "inner"},
		{"outer", hint.With(cause, "outer"), "outer"},
		{"type of another package", fmt.Errorf("dial: %w", &stepError{cause, "outer"}), "outer"},
		{"empty outer", &stepError{hint.With(cause, ""), ""}, "inner"},
	} {
		if got := hint.Of(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if cause.Error() != "port 443: permission denied" || !errors.Is(cause, fs.ErrPermission) {
		t.Errorf("Errorf returns %v", cause)
	}
}

func TestFile(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fs.ErrNotExist, "check the path"},
		{fs.ErrPermission, "let the user that adit runs as read the file"},
		{errors.New("not PEM"), "name a PEM file"},
		{hint.With(fs.ErrNotExist, "its own"), "its own"},
	} {
		if got := hint.Of(hint.File(tt.err, "name a PEM file")); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestAttrs(t *testing.T) {
	err := errors.New("x")
	if got := hint.Attrs(err); !slices.Equal(got, []any{"error", err}) {
		t.Error(got)
	}
	err = hint.With(err, "do y")
	if got := hint.Attrs(err); !slices.Equal(got, []any{"error", err, "hint", "do y"}) {
		t.Error(got)
	}
}
