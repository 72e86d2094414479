package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader applies one file to the settings of its schema.
type reader struct {
	*loader
	path string
	doc  *schema

	// The element that key-value pairs belong to, if any.
	element []*setting // nil outside of elements
	table   string     // "user"
	id      string     // "user[2]"
}

// readTOML applies the content of a file.
func (l *loader) readTOML(path string, data []byte, doc *schema) {
	tables, err := parseTOML(data)
	if err != nil {
		l.partial = true
		origin := path
		if err.line > 0 {
			origin += ":" + strconv.Itoa(err.line)
		}
		l.faults.Add(origin, bad(err.hint, "%s", err))
		return
	}
	r := &reader{loader: l, path: path, doc: doc}
	for _, t := range tables {
		r.element = nil
		if t.name != "" && !r.enter(t) {
			continue
		}
		for _, p := range t.pairs {
			r.pair(t.name, p)
		}
	}
	for _, e := range doc.elements {
		e.store()
	}
}

func (r *reader) fault(line int, key, hint, format string, args ...any) {
	r.faults.Add(r.at(line, key), bad(hint, format, args...))
}

// at is the origin of a key.
func (r *reader) at(line int, key string) string {
	return fmt.Sprintf("%s:%d: %s", r.path, line, key)
}

// enter begins a table. It reports whether the schema has it.
func (r *reader) enter(t tomlTable) bool {
	array := r.doc.array(t.name)
	switch {
	case array != nil && t.array:
		r.startElement(t.line, array)
		return true
	case array != nil:
		r.failed[t.name] = true // not known to be absent
		r.fault(t.line, "["+t.name+"]", "write [["+t.name+"]], once for each "+t.name, "needs two brackets")
	case r.isTable(t.name) && !t.array:
		return true
	case r.isTable(t.name):
		r.fault(t.line, "[["+t.name+"]]", "write ["+t.name+"]", "there is only one such table: one pair of brackets")
	default:
		r.unknown(t.line, t.name, true)
	}
	return false
}

func (r *reader) startElement(line int, array elements) {
	element, index := array.add()
	r.element, r.table, r.id = element, array.name(), itemID(array.name(), index)
	r.origins[r.id] = r.at(line, "[["+r.table+"]]")
}

// isTable reports whether some key lies in the table.
func (r *reader) isTable(name string) bool {
	return slices.ContainsFunc(r.doc.settings, func(s *setting) bool {
		return strings.HasPrefix(s.key, name+".")
	})
}

// pair applies KEY = VALUE in the table prefix.
func (r *reader) pair(prefix string, p tomlPair) {
	key := p.key
	if prefix != "" {
		key = prefix + "." + key
	}
	if array := r.doc.array(key); array != nil {
		r.inlineElements(key, p, array)
		return
	}
	s, id := r.lookup(key)
	switch {
	case s != nil:
		r.store(s, id, key, p)
	case p.value.kind == tomlInline && r.isTable(key):
		for _, inner := range p.value.pairs {
			r.pair(key, inner)
		}
	case r.element == nil && r.isTable(key):
		r.notAValue(p.line, key, "["+key+"]")
	default:
		r.unknown(p.line, key, false)
	}
}

// inlineElements applies user = [{…}, {…}].
func (r *reader) inlineElements(key string, p tomlPair, array elements) {
	defer func() { r.element = nil }()
	wrong := p.value.kind != tomlList
	for _, item := range p.value.items {
		if item.kind != tomlInline {
			wrong = true
			break
		}
		r.startElement(p.line, array)
		for _, inner := range item.pairs {
			r.pair(key, inner)
		}
	}
	if wrong {
		r.notAValue(p.line, key, "[["+key+"]]")
	}
}

// notAValue reports a table that is written as a value.
func (r *reader) notAValue(line int, key, header string) {
	r.failed[key] = true
	r.fault(line, key, "write "+header+" on a line of its own and its keys below", "is a table, not a value")
}

// lookup returns the setting with the full key, and its id in origins.
func (r *reader) lookup(key string) (*setting, string) {
	if r.element == nil {
		return find(r.doc.settings, key), key
	}
	own := strings.TrimPrefix(key, r.table+".")
	return find(r.element, own), r.id + "." + own
}

// store checks the TOML type of a value and assigns it.
func (r *reader) store(s *setting, id, key string, p tomlPair) {
	v := p.value
	origin := r.at(v.line, key)
	s.to.clear()
	r.origins[id] = origin
	if s.to.kind() == kindList && v.kind == tomlList {
		r.storeList(s, id, key, p)
		return
	}
	switch kind := s.to.kind(); {
	case (kind == kindText || kind == kindList || kind == kindSize) && v.kind == tomlText:
	case kind == kindBoolean && v.kind == tomlBoolean:
	case (kind == kindNumber || kind == kindSize) && v.kind == tomlInteger:
	default:
		r.failed[id] = true
		r.fault(v.line, key, "write "+p.key+" = "+form(s), "is %s", describe(s, v))
		return
	}
	if r.assignOne(s, id, origin, v.text) && s.to.kind() == kindList {
		r.origins[itemID(id, 0)] = origin
	}
}

func (r *reader) storeList(s *setting, id, key string, p tomlPair) {
	stored := 0
	for _, item := range p.value.items {
		origin := r.at(item.line, key)
		if item.kind != tomlText {
			r.failed[id] = true
			r.fault(item.line, key, "write "+p.key+` = ["…", "…"]`, "%s in a list of texts", describe(s, item))
			continue
		}
		if r.assignOne(s, id, origin, item.text) {
			r.origins[itemID(id, stored)] = origin
			stored++
		}
	}
}

// form shows how a value of the setting is written.
func form(s *setting) string {
	switch s.to.kind() {
	case kindList:
		return `["…", "…"], a list of texts`
	case kindBoolean:
		return "true, or false, without quotes"
	case kindSize:
		return s.example + ", a text with a unit"
	case kindNumber:
		return s.example + ", a number without quotes"
	}
	if _, isDuration := s.to.get().(time.Duration); isDuration {
		return `"30s", a text with a unit`
	}
	return `"…", a text in quotes`
}

// describe names what the file has in place of a value of the setting.
func describe(s *setting, v tomlValue) string {
	what := ""
	switch v.kind {
	case tomlText:
		what = "the text"
	case tomlBoolean:
		what = "the boolean"
	case tomlInteger, tomlFloat:
		what = "the number"
	case tomlList:
		return "a list"
	case tomlInline:
		return "a table"
	default:
		return "a date or time"
	}
	if s.secret {
		return what + " (not shown)"
	}
	if v.kind == tomlText {
		return what + " " + quoted(v.text)
	}
	return what + " " + v.text
}
