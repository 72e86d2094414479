package adit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// A retiredWord is a word that adit once used for something that has a plain
// name, and must not use again.
type retiredWord struct {
	pattern string // matches the word and its inflections, in lower case
	use     string
	names   bool // only identifiers are checked: in prose the word has other meanings
}

var retiredWords = []retiredWord{
	{pattern: `carriers?|relieved`, use: "connection"},
	{pattern: `fence[sd]?|fencing`, use: "detach"},
	{pattern: `hang up`, use: "close", names: true},
	{pattern: `lends?|lent|lending`, use: "appendOwned"},
	{pattern: `unkept`, use: "noRetransmit"},
	{pattern: `inbox(es)?`, use: "receive buffer"},
	{pattern: `deaf`, use: "discarding"},
	{pattern: `untold`, use: "pending wakeup"},
	{pattern: `lulls?`, use: "low watermark"},
	{pattern: `attention`, use: "priority"},
	{pattern: `much|little`, use: "bulk, small", names: true},
	{pattern: `recall(s|ed|ing)?`, use: "revoke credit"},
	{pattern: `farewells?|last words`, use: "close message"},
	{pattern: `keepers?`, use: "connector"},
	{pattern: `kick(s|ed|ing)?`, use: "reconnect"},
	{pattern: `anew`, use: "again"},
	{pattern: `strangers?`, use: "unauthenticated client"},
	{pattern: `crews?`, use: "go statement"},
	{pattern: `crowds?`, use: "saturation, flood", names: true},
	{pattern: `gate`, use: "pre-auth limiter", names: true},
	{pattern: `guards?`, use: "yamux adapter, rate limiter", names: true},
	{pattern: `mutes?|muted`, use: "close message", names: true},
	{pattern: `soon`, use: "cork", names: true},
	{pattern: `urgent`, use: "priority", names: true},
}

// fieldTerms are retired words that are the field's own in one file.
var fieldTerms = map[string]string{
	"docs_commands_test.go": "fence", // CommonMark's word for the lines around a block of code
}

// Retired words must not return: in names, comments or strings, in tests or other code.
func TestRetiredWords(t *testing.T) {
	patterns := make([]*regexp.Regexp, len(retiredWords))
	for i, w := range retiredWords {
		patterns[i] = regexp.MustCompile(`\b(?:` + w.pattern + `)\b`)
	}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" || name == "words_test.go" {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.FromSlash(name), nil, parser.ParseComments)
		if err != nil {
			return err
		}
		check := func(at token.Pos, text string, isName bool) {
			for i, w := range retiredWords {
				if w.names && !isName {
					continue
				}
				found := patterns[i].FindString(text)
				if term := fieldTerms[name]; found != "" && (term == "" || !strings.HasPrefix(found, term)) {
					t.Errorf("%s: %q is a retired word: use %q", set.Position(at), found, w.use)
				}
			}
		}
		declared(file, func(id *ast.Ident) { check(id.Pos(), splitName(id.Name), true) })
		check(file.Name.Pos(), splitName(strings.TrimSuffix(path.Base(name), ".go")), true)
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
				check(text.Pos(), strings.ToLower(text.Value), false)
			}
			return true
		})
		for _, group := range file.Comments {
			for _, c := range group.List {
				check(c.Pos(), strings.ToLower(c.Text), false)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// declared calls f for every identifier that file declares.
func declared(file *ast.File, f func(*ast.Ident)) {
	names := func(list ...ast.Expr) {
		for _, x := range list {
			if id, ok := x.(*ast.Ident); ok {
				f(id)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			f(n.Name)
		case *ast.TypeSpec:
			f(n.Name)
		case *ast.ValueSpec:
			for _, id := range n.Names {
				f(id)
			}
		case *ast.Field:
			for _, id := range n.Names {
				f(id)
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				names(n.Lhs...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				names(n.Key, n.Value)
			}
		case *ast.LabeledStmt:
			f(n.Label)
		}
		return true
	})
}

// splitName returns the words of an identifier or file name in lower case: "hang
// up" for hangUp and hang_up.
func splitName(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) || r == '_' {
			b.WriteByte(' ')
		}
		if r != '_' {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string]string{"hangUp": "hang up", "hang_up": "hang up", "TestX": "test x", "lull": "lull"} {
		if got := splitName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
