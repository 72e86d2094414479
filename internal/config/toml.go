package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlTable is a [table] or [[table]] of a file with the pairs below it. The
// first of a file is the top of the file, whose name is "".
type tomlTable struct {
	name  string // parts joined with dots
	array bool   // [[table]]
	line  int    // of the header, from 1
	pairs []tomlPair
}

// tomlPair is KEY = VALUE.
type tomlPair struct {
	key   string // parts joined with dots
	line  int
	value tomlValue
}

// tomlKind is the type of a value in a file.
type tomlKind int

const (
	tomlText tomlKind = iota
	tomlInteger
	tomlFloat
	tomlBoolean
	tomlTime // date, time, or both
	tomlList
	tomlInline // table on one line
)

// tomlValue is a value of a file.
type tomlValue struct {
	kind  tomlKind
	line  int
	text  string      // content of a text; an integer in decimal; others as the file has them
	items []tomlValue // of a list
	pairs []tomlPair  // of an inline table
}

// syntaxError is a file that is not TOML, or that defines a key twice.
type syntaxError struct {
	line int // 0: not known
	text string
	hint string
}

func (e *syntaxError) Error() string { return e.text }

const tomlHint = `the file must be TOML: key = "text", key = 5, key = true, key = ["a", "b"], [table], [[user]]`

// pathHint is for paths of Windows.
const pathHint = `write a path with backslashes in single quotes, 'C:\adit\cert.pem', or with slashes, "C:/adit/cert.pem"`

// notUTF8 returns the error of a file with bytes that are not UTF-8, or nil.
func notUTF8(data []byte) *syntaxError {
	line := 0
	for text := range bytes.Lines(data) {
		if line++; !utf8.Valid(text) {
			return &syntaxError{line, "the text is not UTF-8", "save the file as UTF-8: iconv -f ISO-8859-1 -t UTF-8 FILE >NEW"}
		}
	}
	return nil
}

// escape matches the escape sequences of TOML.
var escape = regexp.MustCompile(`\\(?:[btnfre"\\]|x[[:xdigit:]]{2}|u[[:xdigit:]]{4}|U[[:xdigit:]]{8})`)

// explainEscape makes the error say so if its line has a backslash in double
// quotes that begins no escape sequence.
func (e *syntaxError) explainEscape(data []byte) {
	lines := bytes.SplitN(data, []byte("\n"), e.line+1)
	if e.line < 1 || e.line > len(lines) {
		return
	}
	line := escape.ReplaceAll(lines[e.line-1], nil)
	i := bytes.IndexByte(line, '\\')
	if i < 0 || i+1 >= len(line) || !bytes.Contains(line[:i], []byte(`"`)) {
		return
	}
	c, _ := utf8.DecodeRune(line[i+1:])
	e.text = fmt.Sprintf(`\%c in double quotes is not an escape sequence`, c)
	e.hint = pathHint
}

// parseTOML returns the tables of a file in its order.
//
// It reads the syntax tree, not toml.Unmarshal's result, because every fault
// needs its line. The tree's API is called unstable: only this file uses it.
func parseTOML(data []byte) ([]tomlTable, *syntaxError) {
	if e := notUTF8(data); e != nil {
		return nil, e
	}
	// The tree does not know which keys are defined twice.
	var discard map[string]any
	if err := toml.Unmarshal(data, &discard); err != nil {
		e := &syntaxError{text: strings.TrimPrefix(err.Error(), "toml: "), hint: tomlHint}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			e.line, _ = at.Position()
			e.explainEscape(data)
		}
		return nil, e
	}
	tables := []tomlTable{{}}
	t := tree{data: data}
	t.parser.Reset(data)
	for t.parser.NextExpression() {
		switch n := t.parser.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, line := t.key(n.Key())
			tables = append(tables, tomlTable{name: name, line: line, array: n.Kind == unstable.ArrayTable})
		case unstable.KeyValue:
			last := &tables[len(tables)-1]
			last.pairs = append(last.pairs, t.pair(n))
		}
	}
	if err := t.parser.Error(); err != nil { // Unmarshal has found it already
		return nil, &syntaxError{text: err.Error(), hint: tomlHint}
	}
	return tables, nil
}

// tree copies go-toml's nodes, which are valid until the next expression.
type tree struct {
	data   []byte
	parser unstable.Parser
}

// key joins the parts of a dotted key, and returns the line of the first.
func (t *tree) key(it unstable.Iterator) (string, int) {
	var parts []string
	line := 0
	for it.Next() {
		if line == 0 {
			line = t.line(it.Node())
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), line
}

func (t *tree) line(n *unstable.Node) int {
	return 1 + bytes.Count(t.data[:n.Raw.Offset], []byte{'\n'})
}

func (t *tree) pair(n *unstable.Node) tomlPair {
	key, line := t.key(n.Key())
	return tomlPair{key, line, t.value(n.Value(), line)}
}

// value copies a value; line is that of its key, for nodes without a place.
func (t *tree) value(n *unstable.Node, line int) tomlValue {
	if n.Raw.Length > 0 {
		line = t.line(n)
	}
	v := tomlValue{line: line, text: string(n.Data)}
	switch n.Kind {
	case unstable.String:
		v.kind = tomlText
	case unstable.Integer:
		v.kind = tomlInteger
		// TOML also has 4_096 and 0x1000. Unmarshal has refused what is too large.
		if i, err := strconv.ParseInt(v.text, 0, 64); err == nil {
			v.text = strconv.FormatInt(i, 10)
		}
	case unstable.Float:
		v.kind = tomlFloat
	case unstable.Bool:
		v.kind = tomlBoolean
	case unstable.Array:
		v.kind = tomlList
		for it := n.Children(); it.Next(); {
			v.items = append(v.items, t.value(it.Node(), line))
		}
	case unstable.InlineTable:
		v.kind = tomlInline
		for it := n.Children(); it.Next(); {
			v.pairs = append(v.pairs, t.pair(it.Node()))
		}
	default:
		v.kind = tomlTime
	}
	return v
}
