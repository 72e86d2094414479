package config

import "strings"

// setting is one entry of a table: one thing that can be configured, known to
// the file by its key, to the command line by its flag and to the environment
// as ADIT_FLAG.
type setting struct {
	key   string // "tls.cert", or "path" in an element; "" when no file has it
	flag  string // "tls-cert"; "" when there is no flag
	short string // one letter, or ""
	env   string // only when it is not ADIT_ + flag; "-" for none
	arg   string // placeholder of the flag's argument
	to    value  // where the value is stored, and how it is read

	def      string // stored before all layers, in the form that a flag takes; "" for nothing
	unset    string // what holds when nothing is stored, as the reference says it; "" for "none"
	required bool   // an element must have it
	restart  bool   // a reload leaves the value as it was at the start
	secret   bool   // the value stays out of messages
	lines    bool   // items in the environment may contain blanks

	help    string // one line, for the help
	doc     string // a paragraph for the reference; "" when help says everything
	example string // a value as the file has it
}

// configFile is the setting that names the file itself. The loader looks at it
// before it reads anything else.
var configFile = &setting{flag: "config", short: "c", arg: "FILE", to: text(new(string), filePath),
	help: "read the configuration from this TOML file, instead of the first of ~/.config/adit/ and /etc/adit/ that has one"}

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

// id names the setting in origins.
func (s *setting) id() string {
	switch {
	case s.key != "":
		return s.key
	case s.flag != "":
		return s.flag
	}
	return s.env
}

// usage is what the help says about the flag.
func (s *setting) usage() string {
	u := s.help
	if choices := s.to.choices(); len(choices) > 0 {
		u += ": " + either(choices)
	}
	if s.to.kind() == kindList {
		u += " (repeatable)"
	}
	return u
}

// defaultText is the default as the reference writes it.
func (s *setting) defaultText() string {
	switch {
	case s.unset != "":
		return s.unset
	case s.def != "" && (s.to.kind() == kindText || s.to.kind() == kindList || s.to.kind() == kindSize):
		return quoted(s.def)
	case s.def != "":
		return s.def
	case s.to.kind() == kindBoolean:
		return "false"
	}
	return "none"
}

// find returns the setting with the key, or nil.
func find(settings []*setting, key string) *setting {
	for _, s := range settings {
		if s.key != "" && s.key == key {
			return s
		}
	}
	return nil
}
