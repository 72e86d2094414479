package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"adit/internal/hint"
)

type messageCase struct {
	name, file string
	doc        *schema // nil: server.toml
}

// messageCases are files with faults. testdata/messages.golden has what the
// reader says about each; -update writes it.
var messageCases = []messageCase{
	{name: "unknown key, misspelt", file: "drain-timout = \"1s\""},
	{name: "unknown key in a table, misspelt", file: "[tls]\ncret = \"/c\""},
	{name: "unknown key of another table", file: "cert = \"/c\""},
	{name: "unknown key that belongs at the top", file: "[tls]\nlisten = \":1\""},
	{name: "unknown key, like a key of another table", file: "tunnel-path = \"/t\""},
	{name: "unknown key, like none", file: "[tls]\nzzzzzzzz = 1"},
	{name: "unknown dotted key", file: "tunnel.pth = \"/t\""},
	{name: "unknown key of an inline table", file: "tls = {zzzzzzzz = 1}"},
	{name: "unknown key of an element", file: "[[user]]\nnmae = \"a\""},
	{name: "unknown key of an element, like none", file: "[[target]]\nzzzzzzzz = 1"},
	{name: "unknown key of an inline element", file: "user = [{nmae = \"a\"}]"},
	{name: "unknown key in a key", file: "listen.port = 1"},
	{name: "unknown table, misspelt", file: "[tsl]\ncert = \"/c\""},
	{name: "unknown table, like none", file: "[zzzzzzzz]\ncert = \"/c\"\nkey = 1"},
	{name: "unknown table inside of another", file: "[tls.acme]\nemail = \"a@b.c\""},
	{name: "unknown array of tables", file: "[[usr]]\nname = \"a\""},
	{name: "key of a later version", file: "[[user]]\nlisten = [\"127.0.0.1:1\"]"},

	{name: "key of a later version, client", file: "reverse = [\"8080\"]", doc: new(Client).schema()},
	{name: "key in a users file", file: "zzzzzzzz = 1", doc: new(Server).usersSchema()},
	{name: "table of a users file that only server.toml has", file: "[tls]\ncert = \"/c\"", doc: new(Server).usersSchema()},

	{name: "array of tables with one bracket", file: "[user]\nname = \"a\""},
	{name: "table with two brackets", file: "[[tls]]\ncert = \"/c\""},
	{name: "array of tables as a value", file: "user = 5"},
	{name: "array of tables as a list of values", file: "user = [5]"},
	{name: "table as a value", file: "tls = 5"},

	{name: "text is a number", file: "audit = 5"},
	{name: "text is a float", file: "audit = 5.5"},
	{name: "text is a boolean", file: "audit = true"},
	{name: "text is a list", file: "audit = [\"/x\"]"},
	{name: "text is a table", file: "audit = {file = \"/x\"}"},
	{name: "text is a date", file: "audit = 2026-01-02"},
	{name: "text is a time", file: "audit = 10:00:00"},
	{name: "duration is a number", file: "drain-timeout = 30"},
	{name: "duration without unit", file: "drain-timeout = \"30\""},
	{name: "list is a number", file: "listen = 5"},
	{name: "list has a number", file: "listen = [\":1\",\n  5,\n  true]"},
	{name: "list has a list", file: "listen = [[\":1\"]]"},
	{name: "list has a bad item", file: "listen = [\n  \":1\",\n  \"x\"]"},
	{name: "boolean is a text", file: "tls.off = \"yes\""},
	{name: "boolean is a number", file: "tls.off = 1"},
	{name: "number is a text", file: "tunnel.max-streams = \"many\""},
	{name: "number is a float", file: "tunnel.max-streams = 1.5"},
	{name: "number out of bounds", file: "tunnel.max-streams = 0"},
	{name: "number in hexadecimal, out of bounds", file: "tunnel.max-streams = 0xffffff"},
	{name: "number out of 64 bits", file: "tunnel.max-streams = 99999999999999999999"},
	{name: "secret is a number", file: "[[user]]\ntoken-hash = 12345"},
	{name: "secret is empty", file: "[[user]]\ntoken-hash = \"\""},
	{name: "several faults", file: "listen = [\"x\", \"y\"]\nbogus = 1\n[tls]\noff = 3\n[tunnel]\npath = \"z\""},

	{name: "key twice", file: "audit = \"/a\"\naudit = \"/b\""},
	{name: "key twice in a table", file: "[tls]\ncert = \"/a\"\nkey = \"/k\"\ncert = \"/b\""},
	{name: "key twice in an element", file: "[[user]]\nname = \"a\"\nname = \"b\""},
	{name: "table twice", file: "[tls]\ncert = \"/a\"\n[tls]\nkey = \"/k\""},
	{name: "table after its dotted key", file: "tls.cert = \"/a\"\n[tls]\nkey = \"/k\""},
	{name: "key, then a table of that name", file: "tls = 5\n[tls]\ncert = \"/a\""},
	{name: "array of tables, then a table", file: "[[user]]\nname = \"a\"\n[user]\nname = \"b\""},
	{name: "table, then an array of tables", file: "[user]\nname = \"a\"\n[[user]]\nname = \"b\""},

	{name: "no equals sign", file: "listen"},
	{name: "no key", file: "= 5"},
	{name: "no value", file: "listen ="},
	{name: "no quotes", file: "audit = /var/log/audit"},
	{name: "no quotes around a word", file: "log-level = info"},
	{name: "no quotes around an address", file: "listen = 127.0.0.1:443"},
	{name: "no closing quote", file: "audit = \"/x"},
	{name: "no closing quote before the next line", file: "audit = \"/x\nlog-level = \"info\""},
	{name: "no closing single quote", file: "audit = '/x"},
	{name: "no closing bracket of a list", file: "listen = [\":1\""},
	{name: "no comma in a list", file: "listen = [\":1\" \":2\"]"},
	{name: "no closing bracket of a table", file: "[tls\ncert = \"/c\""},
	{name: "no closing brackets of an array of tables", file: "[[user]\nname = \"a\""},
	{name: "no closing brace", file: "tls = {cert = \"/c\""},
	{name: "no comma in an inline table", file: "tls = {cert = \"/c\" key = \"/k\"}"},
	{name: "two keys on a line", file: "audit = \"/x\" log-level = \"info\""},
	{name: "empty table name", file: "[]"},
	{name: "unknown escape", file: "audit = \"C:\\logs\""},
	{name: "escape at the end", file: "audit = \"x\\"},
	{name: "short unicode escape", file: "audit = \"\\u12\""},
	{name: "unicode escape that is no hexadecimal", file: "audit = \"\\u12xy\""},
	{name: "unicode escape of a surrogate", file: "audit = \"\\ud800\""},
	{name: "control character in a text", file: "audit = \"a\x01b\""},
	{name: "control character in single quotes", file: "audit = 'a\x01b'"},
	{name: "control character in a comment", file: "# a\x01b"},
	{name: "line break in single quotes", file: "audit = 'a\nb'"},
	{name: "no end of a multiline text", file: "audit = \"\"\"a\nb"},
	{name: "too many quotes at the end", file: "audit = \"\"\"a\"\"\"\"\"\""},
	{name: "no end of a multiline literal", file: "audit = '''a\nb"},
	{name: "bytes that are no UTF-8", file: "audit = \"a\xffb\""},
	{name: "bytes that are no UTF-8 in a comment", file: "# a\xffb"},
	{name: "carriage return alone", file: "audit = \"/x\"\rlog-level = \"info\""},
	{name: "leading zero", file: "tunnel.max-streams = 07"},
	{name: "underscores", file: "tunnel.max-streams = 4__0"},
	{name: "sign alone", file: "tunnel.max-streams = +"},
	{name: "radix without digits", file: "tunnel.max-streams = 0x"},
	{name: "sign before a radix", file: "tunnel.max-streams = -0x1"},
	{name: "hexadecimal out of 64 bits", file: "tunnel.max-streams = 0xfffffffffffffffff"},
	{name: "octal out of 64 bits", file: "tunnel.max-streams = 0o7777777777777777777777"},
	{name: "binary out of 64 bits", file: "tunnel.max-streams = 0b" + strings.Repeat("1", 65)},
	{name: "fraction without digits", file: "tunnel.max-streams = 1."},
	{name: "exponent without digits", file: "tunnel.max-streams = 1e"},
	{name: "half a keyword", file: "tls.off = tru"},
	{name: "impossible date", file: "audit = 2026-13-02"},
	{name: "impossible time", file: "audit = 25:00:00"},
	{name: "JSON", file: "{\"listen\": \":1\"}"},
	{name: "nested too deeply", file: "listen = " + strings.Repeat("[", 10001)},
}

// said returns the faults that the reader reports for a case.
func said(c messageCase) Faults {
	if c.doc == nil {
		c.doc = new(Server).schema()
	}
	l := newLoader()
	l.readTOML("file.toml", []byte(c.file), c.doc)
	return l.faults
}

func TestMessagesOfTheReader(t *testing.T) {
	var b strings.Builder
	for _, c := range messageCases {
		faults := said(c)
		if len(faults) == 0 {
			t.Errorf("%s: no fault", c.name)
		}
		fmt.Fprintf(&b, "== %s\n%s\n", c.name, shown(c.file))
		for _, f := range faults {
			fmt.Fprintf(&b, "-- %s\n   hint: %s\n", f, hint.Of(f))
		}
		b.WriteString("\n")
	}
	compare(t, "testdata/messages.golden", b.String())
}

// shown returns a file as a golden file can hold it: in Go's quotes if it has
// bytes that an editor would not show.
func shown(file string) string {
	if len(file) > 200 {
		file = file[:20] + "…" // nested too deeply
	}
	if utf8.ValidString(file) && !strings.ContainsFunc(file, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		return file
	}
	return strconv.Quote(file)
}

// No message of the reader is missing from the golden file.
func TestEveryMessageOfTheReaderHasACase(t *testing.T) {
	var golden strings.Builder
	for _, c := range messageCases {
		for _, f := range said(c) {
			golden.WriteString(f.Err.Error() + "\n" + hint.Of(f) + "\n")
		}
	}
	verb := regexp.MustCompile(`%[a-z]`)
	texts := 0
	for _, name := range []string{"file.go", "unknown.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil || !strings.Contains(text, " ") || strings.HasPrefix(text, "%s:%d") {
				return true // no words
			}
			texts++
			pattern := verb.ReplaceAllString(regexp.QuoteMeta(text), ".*")
			if !regexp.MustCompile(pattern).MatchString(golden.String()) {
				t.Errorf("%s: no case of testdata/messages.golden says %q", name, text)
			}
			return true
		})
	}
	if texts < 15 {
		t.Errorf("%d texts were looked at", texts)
	}
}
