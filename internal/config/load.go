package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"adit/internal/hint"
)

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

// loader gathers values and faults.
type loader struct {
	faults  Faults
	origins map[string]string // by key, and by key[i] for the items of lists
	failed  map[string]bool   // keys with a refused value: their absence needs no second fault
	later   bool              // a flag of a later version was used
	partial bool              // a file could not be read: nothing can be said to be absent
}

// faulty reports whether a value was refused for the key, or for one that
// begins with it when it ends in a dot.
func (l *loader) faulty(key string) bool {
	if l.partial {
		return true
	}
	for k := range l.failed {
		if k == key || strings.HasSuffix(key, ".") && strings.HasPrefix(k, key) {
			return true
		}
	}
	return false
}

// origin says where the value of a key came from, for messages.
func (l *loader) origin(key string) string {
	if o, ok := l.origins[key]; ok {
		return o
	}
	if i := strings.LastIndex(key, "]."); i > 0 {
		if o, ok := l.origins[key[:i+1]]; ok {
			return o
		}
	}
	return key
}

// apply fills the settings layer by layer. document is the schema of the
// configuration file.
func (l *loader) apply(settings []*setting, document *schema, later []laterFlag, src Sources) (file string) {
	l.origins, l.failed = map[string]string{}, map[string]bool{}
	for _, s := range settings {
		if s.def == "" {
			continue
		}
		if err := s.value.set(s.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", s.key, err)) // a bug; the tests load every default
		}
	}
	file, named := src.configFile()
	switch {
	case file != "":
		l.readFile(file, named, document)
	case named == "--config":
		l.partial = true
		l.faults.Add(named, bad("name a TOML file, or leave the flag out", "is empty"))
	}
	for _, s := range settings {
		if v, ok := src.env(s.envName()); ok {
			l.assign(s, s.id(), s.envName(), splitEnv(s, v))
		}
	}
	for _, s := range settings {
		v, ok := src.flag(s.flag)
		switch {
		case s.key == argsKey && len(src.Args) > 0:
			l.assign(s, s.id(), "argument", slices.Concat(v, src.Args))
		case ok:
			l.assign(s, s.id(), "--"+s.flag, v)
		}
	}
	for _, f := range later {
		if _, ok := src.flag(f.flag); ok {
			name := "--" + f.flag
			if f.short != "" {
				name = "-" + f.short
			}
			l.later = true
			l.faults.Add(name, bad(f.hint, "not supported by this version"))
		}
	}
	return file
}

// argsKey is the setting that arguments without a flag add to.
const argsKey = "server"

// id names a setting in origins.
func (s *setting) id() string {
	switch {
	case s.key != "":
		return s.key
	case s.flag != "":
		return s.flag
	}
	return s.env
}

// splitEnv cuts the items of a list out of a variable: at line ends if there
// are any, otherwise at blanks.
func splitEnv(s *setting, v string) []string {
	if s.value.shape() != list {
		return []string{v}
	}
	cut := strings.Fields
	if s.lines || strings.Contains(v, "\n") {
		cut = func(v string) []string { return strings.Split(v, "\n") }
	}
	var out []string
	for _, item := range cut(v) {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// assign stores texts from one origin.
func (l *loader) assign(s *setting, id, origin string, texts []string) {
	s.value.clear()
	for k := range l.origins { // of the items, and what is in them, of the layer below
		if strings.HasPrefix(k, id+"[") {
			delete(l.origins, k)
		}
	}
	l.origins[id] = origin
	stored := 0
	for _, t := range texts {
		if l.assignOne(s, id, origin, t) && s.value.shape() == list {
			l.origins[itemID(id, stored)] = origin
			stored++
		}
	}
}

func (l *loader) assignOne(s *setting, id, origin, text string) bool {
	err := s.value.set(text)
	if err != nil {
		l.failed[id] = true
		if several, ok := err.(Faults); ok { // of a value with parts
			for _, f := range several {
				l.faults.Add(strings.TrimSuffix(origin+": "+f.Origin, ": "), f.Err)
			}
			return false
		}
		if s.secret {
			err = bad(hint.Of(err), "the value is not usable (not shown)")
		}
		l.faults.Add(origin, err)
	}
	return err == nil
}

func itemID(id string, i int) string { return id + "[" + strconv.Itoa(i) + "]" }

// maxFile bounds a configuration file. A thousand users take about 200 kB.
const maxFile = 8 << 20

// readFile reads a TOML file and applies it.
func (l *loader) readFile(path, origin string, doc *schema) {
	data, err := readBounded(path)
	if err != nil {
		l.partial = true
		advice := "name a readable TOML file"
		if errors.Is(err, fs.ErrNotExist) {
			advice = "check the path; an example stands in `adit help " + doc.command + "`"
		}
		l.faults.Add(origin, hint.With(err, advice))
		return
	}
	l.readTOML(path, data, doc)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	return data, err
}
