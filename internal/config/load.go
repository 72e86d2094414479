package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"adit/internal/hint"
	"adit/internal/textfile"
)

// loader collects values and faults.
type loader struct {
	faults  Faults
	origins map[string]string // by id, and by id[i] for the items of lists
	failed  map[string]bool   // ids with a refused value: their absence needs no second fault
	later   bool              // a flag of a later version was used
	locked  error             // why a default file cannot be read; or nil
	implied []string          // servers in a client's default file
	partial bool              // a file could not be read: nothing can be said to be absent
}

func newLoader() *loader {
	return &loader{origins: map[string]string{}, failed: map[string]bool{}}
}

// load fills the settings of doc layer by layer. It returns the name of the
// file that was read, "" for none.
func (l *loader) load(doc *schema, src Sources) (file string) {
	l.setDefaults(doc)
	file = l.readConfigFile(doc, src)
	if named, _ := src.configFile(); named == "" && file != "" {
		if s := find(doc.settings, argsKey); s != nil {
			l.implied = slices.Clone(s.to.get().([]string))
		}
	}
	for _, s := range doc.settings {
		if v, ok := src.env(s.envName()); ok {
			l.assign(s, s.envName(), splitEnv(s, v))
		}
	}
	for _, s := range doc.settings {
		v, ok := src.flag(s.flag)
		switch {
		case s.key == argsKey && len(src.Args) > 0:
			l.assign(s, "argument", slices.Concat(v, src.Args))
		case ok:
			l.assign(s, "--"+s.flag, v)
		}
	}
	l.refuseLater(doc.laterFlags, src)
	l.refuseUnknownVariables(doc, src.Environ)
	return file
}

// finish returns the faults. If there are any, a default file that might have the
// missing settings is one more.
func (l *loader) finish() Faults {
	if len(l.faults) > 0 && l.locked != nil {
		l.faults.Add("default configuration file", hint.With(l.locked, "let your user read it, or name another file with --config"))
	}
	return l.faults
}

// argsKey is the setting that arguments without a flag add to.
const argsKey = "server"

func (l *loader) setDefaults(doc *schema) {
	for _, s := range doc.settings {
		if s.def == "" {
			continue
		}
		if err := s.to.set(s.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", s.key, err)) // a bug; the tests load every default
		}
	}
}

func (l *loader) readConfigFile(doc *schema, src Sources) string {
	file, named := src.configFile()
	switch {
	case file != "":
		l.readFile(file, named, doc)
	case named == "--config":
		l.partial = true
		l.faults.Add(named, bad("name a TOML file, or leave the flag out", "is empty"))
	default:
		if file, l.locked = defaultFile(src.DefaultFiles); file != "" {
			l.readFile(file, file, doc)
		}
	}
	return file
}

// refuseLater reports flags of later versions.
func (l *loader) refuseLater(flags []laterFlag, src Sources) {
	for _, f := range flags {
		if _, ok := src.flag(f.flag); ok {
			name := "--" + f.flag
			if f.short != "" {
				name = "-" + f.short
			}
			l.later = true
			l.faults.Add(name, bad(f.hint, "not supported by this version"))
		}
	}
}

// faulty reports whether a value was refused for the id, or for one that
// begins with it when it ends in a dot.
func (l *loader) faulty(id string) bool {
	if l.partial {
		return true
	}
	for k := range l.failed {
		if k == id || strings.HasSuffix(id, ".") && strings.HasPrefix(k, id) {
			return true
		}
	}
	return false
}

// isSet reports whether the file, the environment or a flag gave the value.
func (l *loader) isSet(id string) bool { return l.origins[id] != "" }

// origin says where the value of an id came from, for messages.
func (l *loader) origin(id string) string { return originOf(l.origins, id) }

// report adds a fault of a value that is bad beside others.
func (l *loader) report(id, hint, format string, args ...any) {
	l.faults.Add(l.origin(id), bad(hint, format, args...))
}

func originOf(origins map[string]string, id string) string {
	if o, ok := origins[id]; ok {
		return o
	}
	if i := strings.LastIndex(id, "]."); i > 0 {
		if o, ok := origins[id[:i+1]]; ok {
			return o
		}
	}
	return id
}

// splitEnv cuts the items of a list out of a variable: at line ends if there
// are any, otherwise at blanks.
func splitEnv(s *setting, v string) []string {
	if s.to.kind() != kindList {
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

// assign stores texts from one origin, in place of what a lower layer stored.
func (l *loader) assign(s *setting, origin string, texts []string) {
	id := s.id()
	s.to.clear()
	for k := range l.origins { // the items of the lower layer, and what is in them
		if strings.HasPrefix(k, id+"[") {
			delete(l.origins, k)
		}
	}
	l.origins[id] = origin
	stored := 0
	for _, t := range texts {
		if l.assignOne(s, id, origin, t) && s.to.kind() == kindList {
			l.origins[itemID(id, stored)] = origin
			stored++
		}
	}
}

// assignOne stores one text. It reports whether the text is good.
func (l *loader) assignOne(s *setting, id, origin, text string) bool {
	err := s.to.set(text)
	if err != nil {
		l.failed[id] = true
		if several, ok := err.(Faults); ok { // from a value with parts
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
	data, err := textfile.Read(path, maxFile)
	if err != nil {
		l.partial = true
		advice := cmp.Or(hint.Of(err), "name a readable TOML file")
		if errors.Is(err, fs.ErrNotExist) {
			advice = "check the path; `adit help " + doc.command + "` shows an example"
		}
		l.faults.Add(origin, hint.With(err, advice))
		return
	}
	l.readTOML(path, data, doc)
}
