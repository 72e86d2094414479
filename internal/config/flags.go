package config

import (
	"github.com/spf13/pflag"
)

// Annotations of a flag that a setting defined, for the manual page and the
// completion. The first two have one value each.
const (
	KeyAnnotation      = "adit key"      // the key in the configuration file
	VariableAnnotation = "adit variable" // the environment variable
	ChoicesAnnotation  = "adit choices"  // all values that the flag takes
)

// ServerFlags defines the flags of adit server in fs.
func ServerFlags(fs *pflag.FlagSet) { register(fs, new(Server).settings(), nil) }

// ClientFlags defines the flags of adit client in fs. They are those of adit
// check, too.
func ClientFlags(fs *pflag.FlagSet) { register(fs, new(Client).settings(), clientLater) }

// laterFlag is a flag of a later version. The help does not show it; using it
// is a fault with a hint.
type laterFlag struct {
	flag, short, hint string
}

// register adds the flags of the settings to fs, in their order.
func register(fs *pflag.FlagSet, settings []*setting, later []laterFlag) {
	fs.SortFlags = false
	for _, s := range append(settings, configFile) {
		if s.flag == "" {
			continue
		}
		f := fs.VarPF(&rawFlag{kind: s.to.kind(), arg: s.arg}, s.flag, s.short, s.usage())
		f.DefValue = s.def
		if s.to.kind() == kindBoolean {
			f.NoOptDefVal = "true"
		}
		f.Annotations = map[string][]string{}
		if s.key != "" {
			f.Annotations[KeyAnnotation] = []string{s.key}
		}
		if choices := s.to.choices(); len(choices) > 0 {
			f.Annotations[ChoicesAnnotation] = choices
		}
		if v := s.envName(); v != "" {
			f.Annotations[VariableAnnotation] = []string{v}
		}
	}
	for _, l := range later {
		fs.VarPF(&rawFlag{arg: "VALUE", kind: kindList}, l.flag, l.short, "not in this version").Hidden = true
	}
}

// rawFlag collects a flag's text unparsed. Parsing is the loader's, so that
// all faults are found together and a reload can apply the flags again.
type rawFlag struct {
	values []string
	kind   kind
	arg    string
}

// String returns "": the flag's DefValue is set by register.
func (f *rawFlag) String() string { return "" }

// Set stores the text; a flag that is no list keeps the last one.
func (f *rawFlag) Set(s string) error {
	if f.kind != kindList {
		f.values = f.values[:0]
	}
	f.values = append(f.values, s)
	return nil
}

// Type is what pflag prints for the argument; it prints nothing for bool.
func (f *rawFlag) Type() string {
	if f.kind == kindBoolean {
		return "bool"
	}
	return f.arg
}
