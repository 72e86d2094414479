package config

import "github.com/spf13/pflag"

// Sources is where a configuration comes from.
type Sources struct {
	// Flags is a set that ServerFlags or ClientFlags filled and that has
	// been parsed. Nil means no flags.
	Flags *pflag.FlagSet
	// Args are the arguments that are not flags.
	Args []string
	// LookupEnv is os.LookupEnv, or nil for an empty environment. A variable
	// that is set but empty counts as not set.
	LookupEnv func(string) (string, bool)
	// Environ is os.Environ(), or nil. Variables that begin with ADIT_ and
	// that neither file's table has are faults.
	Environ []string
	// DefaultFiles are configuration files of which the first that exists and
	// may be read is read when neither --config nor ADIT_CONFIG names one. See
	// DefaultFiles.
	DefaultFiles []string
}

func (s Sources) env(name string) (string, bool) {
	if s.LookupEnv == nil || name == "" {
		return "", false
	}
	v, ok := s.LookupEnv(name)
	return v, ok && v != ""
}

// flag returns what was given for a flag, and whether it was given at all.
func (s Sources) flag(name string) ([]string, bool) {
	if s.Flags == nil || name == "" {
		return nil, false
	}
	f := s.Flags.Lookup(name)
	if f == nil || !f.Changed {
		return nil, false
	}
	return f.Value.(*rawFlag).values, true
}

// configFile returns the file to read, "" for none, and who named it.
func (s Sources) configFile() (path, origin string) {
	if v, ok := s.flag("config"); ok {
		return v[len(v)-1], "--config"
	}
	v, _ := s.env("ADIT_CONFIG")
	return v, "ADIT_CONFIG"
}
