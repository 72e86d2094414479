package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// schema is what a TOML file may contain.
type schema struct {
	command  string // the subcommand, for hints
	settings []*setting
	// tables are the arrays of tables, such as [[user]]: each call makes the
	// settings of one more element and says how many there were before.
	tables map[string]func() (element []*setting, index int)
	// later are keys and tables that this version does not know, with a hint.
	later map[string]string
}

// reader walks the syntax tree of one file. The tree, and not
// toml.Unmarshal, because every fault needs its line and none may hide the
// next; the tree's API is called unstable, so only this file uses it.
type reader struct {
	*loader
	path   string
	data   []byte
	doc    *schema
	parser unstable.Parser

	// The table that key-values belong to.
	prefix   string     // "tls", "user", or "" at the top
	element  []*setting // of the current [[table]], else nil
	id       string     // "user[2]" in the current [[table]]
	skipping bool       // in a table already reported as unknown
}

func (l *loader) readTOML(path string, data []byte, doc *schema) {
	// Syntax, and keys defined twice, are checked as a whole first.
	var discard map[string]any
	if err := toml.Unmarshal(data, &discard); err != nil {
		l.partial = true
		origin := path
		var de *toml.DecodeError
		if errors.As(err, &de) {
			line, _ := de.Position()
			origin = path + ":" + strconv.Itoa(line)
		}
		l.faults.Add(origin, bad(
			`the file must be TOML: key = "text", key = 5, key = true, key = ["a", "b"], [table], [[user]]`,
			"%s", strings.TrimPrefix(err.Error(), "toml: "),
		))
		return
	}
	r := &reader{loader: l, path: path, data: data, doc: doc}
	r.parser.Reset(data)
	for r.parser.NextExpression() {
		r.expression(r.parser.Expression())
	}
	if err := r.parser.Error(); err != nil { // cannot happen after the check above
		l.faults.Add(path, err)
	}
}

func (r *reader) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		key, line := r.key(n.Key())
		r.prefix, r.element, r.id, r.skipping = key, nil, "", false
		r.enterTable(key, line, n.Kind == unstable.ArrayTable)
	case unstable.KeyValue:
		if !r.skipping {
			r.keyValue(r.prefix, n)
		}
	}
}

// key joins a dotted key and finds its line.
func (r *reader) key(it unstable.Iterator) (string, int) {
	var parts []string
	line := 0
	for it.Next() {
		if line == 0 {
			line = r.line(it.Node())
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), line
}

func (r *reader) line(n *unstable.Node) int {
	return 1 + bytes.Count(r.data[:n.Raw.Offset], []byte{'\n'})
}

func (r *reader) fault(line int, key string, err error) {
	r.faults.Add(fmt.Sprintf("%s:%d: %s", r.path, line, key), err)
}

func (r *reader) enterTable(name string, line int, array bool) {
	newElement, isArray := r.doc.tables[name]
	switch {
	case isArray && array:
		r.startElement(name, line, newElement)
		return
	case isArray:
		r.failed[name] = true // not known to be absent
		r.fault(line, "["+name+"]", bad("write [["+name+"]], once for each "+name, "needs two brackets"))
	case r.isTable(name) && !array:
		return
	case r.isTable(name):
		r.fault(line, "[["+name+"]]", bad("write ["+name+"]", "there is only one such table: one pair of brackets"))
	default:
		r.unknown(line, name, true)
	}
	r.skipping = true
}

func (r *reader) startElement(name string, line int, newElement func() ([]*setting, int)) {
	element, index := newElement()
	r.element, r.id = element, itemID(name, index)
	r.origins[r.id] = fmt.Sprintf("%s:%d: [[%s]]", r.path, line, name)
}

// isTable reports whether some key lies in the table.
func (r *reader) isTable(name string) bool {
	return slices.ContainsFunc(r.doc.settings, func(s *setting) bool {
		return strings.HasPrefix(s.key, name+".")
	})
}

func (r *reader) keyValue(prefix string, n *unstable.Node) {
	key, line := r.key(n.Key())
	if prefix != "" {
		key = prefix + "." + key
	}
	v := n.Value()
	if newElement, ok := r.doc.tables[key]; ok {
		r.inlineElements(key, line, v, newElement)
		return
	}
	s, id := r.find(key)
	switch {
	case s != nil:
		r.store(s, id, key, line, v)
	case v.Kind == unstable.InlineTable && r.isTable(key):
		for it := v.Children(); it.Next(); {
			r.keyValue(key, it.Node())
		}
	default:
		r.unknown(line, key, false)
	}
}

// inlineElements reads user = [{…}, {…}].
func (r *reader) inlineElements(key string, line int, v *unstable.Node, newElement func() ([]*setting, int)) {
	outer := *r
	defer func() { r.element, r.id = outer.element, outer.id }()
	wrong := v.Kind != unstable.Array
	for it := v.Children(); !wrong && it.Next(); {
		if it.Node().Kind != unstable.InlineTable {
			wrong = true
			break
		}
		r.startElement(key, line, newElement)
		for kv := it.Node().Children(); kv.Next(); {
			r.keyValue(key, kv.Node())
		}
	}
	if wrong {
		r.failed[key] = true
		r.fault(line, key, bad("write [["+key+"]] on a line of its own and its keys below", "is a table, not a value"))
	}
}

// find returns the setting with the full key, and its id in origins.
func (r *reader) find(key string) (*setting, string) {
	if r.element != nil {
		own := strings.TrimPrefix(key, r.prefixOfElement()+".")
		for _, s := range r.element {
			if s.key == own {
				return s, r.id + "." + own
			}
		}
		return nil, ""
	}
	for _, s := range r.doc.settings {
		if s.key != "" && s.key == key {
			return s, key
		}
	}
	return nil, ""
}

// prefixOfElement is "user" in "user[2]".
func (r *reader) prefixOfElement() string {
	name, _, _ := strings.Cut(r.id, "[")
	return name
}

// store checks the TOML type and assigns the value.
func (r *reader) store(s *setting, id, key string, line int, v *unstable.Node) {
	at := func(n *unstable.Node) string {
		l := line
		if n.Raw.Length > 0 {
			l = r.line(n)
		}
		return fmt.Sprintf("%s:%d: %s", r.path, l, key)
	}
	s.value.clear()
	r.origins[id] = at(v)
	if s.value.shape() == list && v.Kind == unstable.Array {
		stored := 0
		for it := v.Children(); it.Next(); {
			n := it.Node()
			if n.Kind != unstable.String {
				r.failed[id] = true
				r.faults.Add(at(n), bad("write "+key+` = ["…", "…"]`, "%s in a list of texts", describe(n)))
				continue
			}
			if r.assignOne(s, id, at(n), string(n.Data)) {
				r.origins[itemID(id, stored)] = at(n)
				stored++
			}
		}
		return
	}
	content, want := "", ""
	switch shape := s.value.shape(); {
	case (shape == text || shape == list) && v.Kind == unstable.String:
		content = string(v.Data)
	case shape == boolean && v.Kind == unstable.Bool:
		content = string(v.Data)
	case shape == number && v.Kind == unstable.Integer:
		// TOML also has 4_096 and 0x1000.
		n, err := strconv.ParseInt(string(v.Data), 0, 64)
		if err != nil {
			r.failed[id] = true
			r.faults.Add(at(v), bad("write a whole number, e.g. "+key+" = 4096", "%s is too large", v.Data))
			return
		}
		content = strconv.FormatInt(n, 10)
	case shape == text:
		want = key + ` = "…", a text in quotes`
		if s.arg == "DURATION" {
			want = key + ` = "30s", a text with a unit`
		}
	case shape == list:
		want = key + ` = ["…", "…"], a list of texts`
	case shape == boolean:
		want = key + " = true, or false, without quotes"
	case shape == number:
		want = key + " = " + exampleNumber(s) + ", a number without quotes"
	}
	if want != "" {
		r.failed[id] = true
		r.faults.Add(at(v), bad("write "+want, "is %s", describe(v)))
		return
	}
	if r.assignOne(s, id, at(v), content) && s.value.shape() == list {
		r.origins[itemID(id, 0)] = at(v)
	}
}

func exampleNumber(s *setting) string {
	if s.def != "" {
		return s.def
	}
	return "8"
}

func describe(n *unstable.Node) string {
	switch n.Kind {
	case unstable.String:
		return fmt.Sprintf("the text %q", n.Data)
	case unstable.Bool:
		return "the truth value " + string(n.Data)
	case unstable.Integer, unstable.Float:
		return "the number " + string(n.Data)
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}

// unknown reports a key or table that does not exist, with the likeliest
// meant.
func (r *reader) unknown(line int, key string, table bool) {
	shown, what := key, "key"
	if table {
		shown, what = "["+key+"]", "table"
	}
	for later, hint := range r.doc.later {
		if key == later || strings.HasPrefix(key, later+".") {
			r.fault(line, shown, bad(hint, "not supported by this version"))
			return
		}
	}
	// What was meant is not known to be absent.
	if r.element != nil {
		r.failed[r.id+strings.TrimPrefix(key, r.prefixOfElement())] = true
	} else {
		r.failed[key] = true
	}
	r.fault(line, shown, bad(r.suggest(key, table), "unknown %s", what))
}

func (r *reader) suggest(key string, table bool) string {
	if table {
		if m := Nearest(key, r.tableNames()); m != "" {
			return "did you mean [" + m + "]?"
		}
		return "the tables are " + bracketed(r.tableNames())
	}
	var all []string
	inside := r.prefix
	if r.element != nil {
		for _, s := range r.element {
			all = append(all, r.prefixOfElement()+"."+s.key)
		}
	} else {
		for _, s := range r.doc.settings {
			if s.key != "" {
				all = append(all, s.key)
			}
		}
	}
	own := key[strings.LastIndexByte(key, '.')+1:]
	// The right name in the wrong table is likelier than a misspelling.
	for _, k := range all {
		if k[strings.LastIndexByte(k, '.')+1:] == own {
			t, _, in := strings.Cut(k, ".")
			if in {
				return fmt.Sprintf("the key is %s: put it below [%s]", k, t)
			}
			return fmt.Sprintf("%s belongs at the top of the file, before the first [table]", k)
		}
	}
	var here, names []string
	for _, k := range all {
		t, name, in := strings.Cut(k, ".")
		if !in {
			t, name = "", k
		}
		if t == inside {
			here = append(here, name)
		}
		names = append(names, k)
	}
	if m := Nearest(own, here); m != "" {
		return fmt.Sprintf("did you mean %s?", m)
	}
	if m := Nearest(key, names); m != "" {
		return fmt.Sprintf("did you mean %s?", m)
	}
	if len(here) == 0 {
		return "only tables belong here: " + bracketed(r.tableNames())
	}
	return "the keys here are " + strings.Join(here, ", ")
}

func (r *reader) tableNames() []string {
	var names []string
	for _, s := range r.doc.settings {
		if t, _, ok := strings.Cut(s.key, "."); ok && !slices.Contains(names, t) {
			names = append(names, t)
		}
	}
	for t := range r.doc.tables {
		names = append(names, t)
	}
	slices.Sort(names)
	return names
}

func bracketed(names []string) string {
	return "[" + strings.Join(names, "], [") + "]"
}
