// Package config turns a TOML file, the environment and command line flags
// into checked plain values, in that order of precedence: a flag wins over the
// environment, the environment over the file, the file over the default. A
// higher layer replaces a list, it does not add to it.
//
// Nothing stops at the first mistake: loading reports every fault it finds,
// each with the place it came from (file and line, flag, or variable) and a
// hint with a correct example. Files and certificates that values name are
// not opened here; that is the caller's.
package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// setting is one thing that can be configured, known to the file by key, to
// the command line by flag and to the environment by ADIT_FLAG.
type setting struct {
	key   string // "tls.cert"; "" when it has no place in a file
	flag  string // "tls-cert"; "" when it has no flag
	short string // one letter, or ""
	env   string // only when it is not ADIT_ + flag; "-" for none
	arg   string // placeholder in the help text
	usage string
	def   string // default, in the form a flag takes; "" means none
	lines bool   // items of a list in the environment may contain blanks
	// secret keeps the value out of messages.
	secret bool
	// restart says that a reload leaves the value as it was at the start.
	restart bool
	value   value
}

// envName returns the setting's variable, or "".
func (s *setting) envName() string {
	switch {
	case s.env == "-":
		return ""
	case s.env != "":
		return s.env
	case s.flag == "":
		return ""
	}
	return "ADIT_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

// shape is what the TOML file must hold for a value.
type shape int

const (
	text shape = iota
	number
	boolean
	list
)

// value is where a setting is stored. set parses one item and stores it, or
// for a list appends it; clear drops what a lower layer stored. The error of
// a value that has parts is Faults, with the parts as origins.
type value interface {
	shape() shape
	set(string) error
	clear()
}

// holder is a value that can be read back. What a reload does not change has
// to be one.
type holder interface{ get() any }

type scalar[T any] struct {
	to    *T
	parse func(string) (T, error)
	kind  shape
}

func (v scalar[T]) shape() shape { return v.kind }
func (v scalar[T]) clear()       {}
func (v scalar[T]) get() any     { return *v.to }
func (v scalar[T]) set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.to = x
	}
	return err
}

type items[T any] struct {
	to    *[]T
	parse func(string) (T, error)
}

func (v items[T]) shape() shape { return list }
func (v items[T]) clear()       { *v.to = nil }
func (v items[T]) get() any     { return *v.to }
func (v items[T]) set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.to = append(*v.to, x)
	}
	return err
}

func textValue[T any](to *T, parse func(string) (T, error)) value {
	return scalar[T]{to, parse, text}
}

func numberValue(to *int, low, high int) value {
	return scalar[int]{to, func(s string) (int, error) { return parseInt(s, low, high) }, number}
}

func boolValue(to *bool) value { return scalar[bool]{to, parseBool, boolean} }

func listValue[T any](to *[]T, parse func(string) (T, error)) value {
	return items[T]{to, parse}
}

// rawFlag collects a flag's text unparsed. Parsing waits for load, so that all
// faults are found together and a reload can apply the flags again.
type rawFlag struct {
	values []string
	kind   shape
	arg    string
}

func (f *rawFlag) String() string { return "" }

func (f *rawFlag) Set(s string) error {
	if f.kind != list {
		f.values = f.values[:0]
	}
	f.values = append(f.values, s)
	return nil
}

// Type is what pflag prints for the argument; it omits the word bool.
func (f *rawFlag) Type() string {
	if f.kind == boolean {
		return "bool"
	}
	return f.arg
}

// laterFlag is a flag of the design that this version does not have yet.
// Hidden from the help; using it is a fault with a hint.
type laterFlag struct {
	flag, short, hint string
}

// register adds the flags of the settings to fs, in order.
func register(fs *pflag.FlagSet, settings []*setting, later []laterFlag) {
	fs.SortFlags = false
	for _, s := range settings {
		if s.flag == "" {
			continue
		}
		f := fs.VarPF(&rawFlag{kind: s.value.shape(), arg: s.arg}, s.flag, s.short, s.usage)
		f.DefValue = s.def
		if s.value.shape() == boolean {
			f.NoOptDefVal = "true"
		}
	}
	fs.VarPF(&rawFlag{arg: "FILE"}, "config", "c", "read the configuration from this TOML file")
	for _, l := range later {
		fs.VarPF(&rawFlag{arg: "VALUE", kind: list}, l.flag, l.short, "not in this version").Hidden = true
	}
}

// stored is a value that hands what it parsed to a function.
type stored[T any] struct {
	parse func(string) (T, error)
	store func(T)
	kind  shape
}

func (v stored[T]) shape() shape { return v.kind }
func (v stored[T]) clear()       {}
func (v stored[T]) set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		v.store(x)
	}
	return err
}

func into[T any](parse func(string) (T, error), store func(T)) value {
	return stored[T]{parse, store, text}
}

func listInto[T any](parse func(string) (T, error), store func(T)) value {
	return stored[T]{parse, store, list}
}

func boolInto(store func(bool)) value { return stored[bool]{parseBool, store, boolean} }

func numberInto(low, high int, store func(int)) value {
	return stored[int]{func(s string) (int, error) { return parseInt(s, low, high) }, store, number}
}
