package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// gost CVE-2023-32691: a secret was compared byte by byte, so that the time revealed how many bytes
// matched. In packages auth and server, values named like a secret or its hash are compared with
// crypto/subtle or hmac.Equal, never with ==, bytes.Equal and the like, except with a constant.
func TestAdvisoryConstantTime(t *testing.T) {
	secret := regexp.MustCompile(`(?i)(^|[^a-z])(sum|sums|mac|digest|secret|token|password|ticket)$`)
	careless := map[string]bool{"bytes.Equal": true, "bytes.Compare": true, "strings.EqualFold": true, "strings.Compare": true, "slices.Equal": true, "reflect.DeepEqual": true}
	careful := 0
	for _, dir := range []string{".", "../server"} {
		set := token.NewFileSet()
		packages, err := parser.ParseDir(set, dir, func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packages {
			ast.Inspect(p, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BinaryExpr:
					if n.Op != token.EQL && n.Op != token.NEQ || isConstant(n.X) || isConstant(n.Y) {
						break
					}
					if secret.MatchString(name(n.X)) || secret.MatchString(name(n.Y)) {
						t.Errorf("%s: %s %s %s", set.Position(n.Pos()), name(n.X), n.Op, name(n.Y))
					}
				case *ast.CallExpr:
					f := name(n.Fun)
					if f == "subtle.ConstantTimeCompare" || f == "hmac.Equal" {
						careful++
					}
					for _, arg := range n.Args {
						if careless[f] && secret.MatchString(name(arg)) {
							t.Errorf("%s: %s(… %s …)", set.Position(n.Pos()), f, name(arg))
						}
					}
				}
				return true
			})
		}
	}
	if careful == 0 {
		t.Error("no comparison in constant time found: this test looks in the wrong places")
	}
}

// isConstant reports whether an operand is nil or a literal.
func isConstant(e ast.Expr) bool {
	if id, ok := e.(*ast.Ident); ok {
		return id.Name == "nil"
	}
	_, literal := e.(*ast.BasicLit)
	return literal
}

// name returns the name of an expression, such as a.b.c, without indices and slices.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return name(e.X) + "." + e.Sel.Name
	case *ast.SliceExpr:
		return name(e.X)
	case *ast.IndexExpr:
		return name(e.X)
	case *ast.StarExpr:
		return name(e.X)
	case *ast.ParenExpr:
		return name(e.X)
	case *ast.CallExpr: // a conversion, perhaps
		if len(e.Args) == 1 && name(e.Fun) != "len" {
			return name(e.Args[0])
		}
	}
	return ""
}
