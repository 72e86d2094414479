package config

import (
	"fmt"
	"slices"
	"strings"
)

// unknown reports a key or table that the schema does not have, with the
// likeliest one meant.
func (r *reader) unknown(line int, key string, table bool) {
	shown, what := key, "key"
	if table {
		shown, what = "["+key+"]", "table"
	}
	for later, hint := range r.doc.later {
		if key == later || strings.HasPrefix(key, later+".") {
			r.fault(line, shown, hint, "not supported by this version")
			return
		}
	}
	// What was meant is not known to be absent.
	if r.element != nil {
		r.failed[r.id+strings.TrimPrefix(key, r.table)] = true
	} else {
		r.failed[key] = true
	}
	hint := ""
	if table {
		hint = r.suggestTable(key)
	} else {
		hint = r.suggestKey(key)
	}
	r.fault(line, shown, hint, "unknown %s", what)
}

func (r *reader) suggestTable(name string) string {
	if m := Nearest(name, r.tableNames()); m != "" {
		return "did you mean " + r.header(m) + "?"
	}
	return "the tables are " + r.headers()
}

func (r *reader) suggestKey(key string) string {
	if hint, ok := r.doc.instead[key]; ok {
		return hint
	}
	keys := r.keys()
	dot := strings.LastIndexByte(key, '.')
	inside, own := key[:max(dot, 0)], key[dot+1:]
	// The right name in the wrong table is likelier than a misspelling.
	for _, k := range keys {
		if k[strings.LastIndexByte(k, '.')+1:] == own {
			if table, _, in := strings.Cut(k, "."); in {
				return fmt.Sprintf("the key is %s: put it below %s", k, r.header(table))
			}
			return fmt.Sprintf("%s belongs at the top of the file, before the first [table]", k)
		}
	}
	var here []string // names in the same table
	for _, k := range keys {
		table, name, in := strings.Cut(k, ".")
		if !in {
			table, name = "", k
		}
		if table == inside {
			here = append(here, name)
		}
	}
	if m := Nearest(own, here); m != "" {
		return fmt.Sprintf("did you mean %s?", m)
	}
	if m := Nearest(key, keys); m != "" {
		return fmt.Sprintf("did you mean %s?", m)
	}
	if s := find(r.doc.settings, inside); s != nil && r.element == nil {
		return "write " + inside + " = " + form(s)
	}
	if len(here) == 0 {
		return "only tables belong here: " + r.headers()
	}
	return "the keys here are " + strings.Join(here, ", ")
}

// keys are the full keys that can be meant: those of the current element, or
// all others.
func (r *reader) keys() []string {
	var keys []string
	if r.element != nil {
		for _, s := range r.element {
			keys = append(keys, r.table+"."+s.key)
		}
		return keys
	}
	for _, s := range r.doc.settings {
		if s.key != "" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

func (r *reader) tableNames() []string {
	var names []string
	for _, s := range r.doc.settings {
		if t, _, ok := strings.Cut(s.key, "."); ok && !slices.Contains(names, t) {
			names = append(names, t)
		}
	}
	for _, e := range r.doc.elements {
		names = append(names, e.name())
	}
	slices.Sort(names)
	return names
}

// header is how a table begins in the file.
func (r *reader) header(table string) string {
	if r.doc.array(table) != nil {
		return "[[" + table + "]]"
	}
	return "[" + table + "]"
}

func (r *reader) headers() string {
	var all []string
	for _, name := range r.tableNames() {
		all = append(all, r.header(name))
	}
	return strings.Join(all, ", ")
}
