package config

import (
	"fmt"
	"time"
)

// kind is what a TOML file must hold for a value.
type kind int

const (
	kindText kind = iota
	kindNumber
	kindSize // a number of MiB, or a text with a unit
	kindBoolean
	kindList // of texts
)

// value is where a setting is stored, and how its text is read.
type value interface {
	kind() kind
	// set parses one item and stores it; to a list it appends it. The error
	// of a value that has parts is Faults, with the parts as origins.
	set(string) error
	// clear empties a list, so that a higher layer replaces it.
	clear()
	// get returns what is stored.
	get() any
	// bounds says what is accepted, as the reference writes it; "" when the
	// setting's words have to say it.
	bounds() string
	// choices are all texts that are accepted; nil when there is no such list.
	choices() []string
}

// scalar is a value with one item.
type scalar[T any] struct {
	to      *T
	parse   func(string) (T, error)
	holds   kind
	between string
	of      []string
}

func (v scalar[T]) kind() kind        { return v.holds }
func (v scalar[T]) clear()            {}
func (v scalar[T]) get() any          { return *v.to }
func (v scalar[T]) bounds() string    { return v.between }
func (v scalar[T]) choices() []string { return v.of }
func (v scalar[T]) set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.to = x
	}
	return err
}

// items is a value that is a list.
type items[T any] struct {
	to    *[]T
	parse func(string) (T, error)
}

func (v items[T]) kind() kind        { return kindList }
func (v items[T]) clear()            { *v.to = nil }
func (v items[T]) get() any          { return *v.to }
func (v items[T]) bounds() string    { return "" }
func (v items[T]) choices() []string { return nil }
func (v items[T]) set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.to = append(*v.to, x)
	}
	return err
}

func text[T any](to *T, parse func(string) (T, error)) value {
	return scalar[T]{to: to, parse: parse, holds: kindText}
}

func list[T any](to *[]T, parse func(string) (T, error)) value {
	return items[T]{to, parse}
}

func boolean(to *bool) value {
	return scalar[bool]{to: to, parse: parseBool, holds: kindBoolean}
}

func number(to *int, low, high int) value {
	return scalar[int]{to: to, parse: parseInt(low, high), holds: kindNumber, between: numbersBetween(low, high)}
}

// numberOrNone is number, except that 0 is accepted and stored as none.
func numberOrNone(to *int, low, high, none int) value {
	return scalar[int]{to: to, holds: kindNumber, between: numbersBetween(low, high) + ", or 0 for no bound",
		parse: func(s string) (int, error) {
			n, err := parseInt(0, high)(s)
			if err == nil && n == 0 {
				n = none
			}
			return n, err
		}}
}

// mebibytes is a size, which is stored in MiB.
func mebibytes(to *int, low, high int) value {
	return scalar[int]{to: to, parse: func(s string) (int, error) { return ParseMebibytes(s, low, high) }, holds: kindSize,
		between: fmt.Sprintf(`from "%dMiB" to "%dMiB"`, low, high)}
}

func duration(to *time.Duration, low, high time.Duration) value {
	return scalar[time.Duration]{to: to, parse: parseDuration(low, high), holds: kindText, between: durationsBetween(low, high)}
}

// durationOrNever is duration, except that 0 is accepted and stored as never.
func durationOrNever(to *time.Duration, low, high, never time.Duration) value {
	return scalar[time.Duration]{to: to, parse: orNever(low, high, never), holds: kindText,
		between: durationsBetween(low, high) + `, or "0s" for never`}
}

// choice is one of a few words; what says what they name, for messages.
func choice(to *string, what string, of ...string) value {
	return scalar[string]{to: to, parse: oneOf(what, of...), holds: kindText, of: of}
}
