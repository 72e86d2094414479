// Package adit_test keeps the rules about who may import and do what in this module.
package adit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "adit"

// mayImport says, for every package of the module, which others of it a package may import.
// Tests are free, and only they may import internal/testnet.
var mayImport = map[string][]string{
	"cmd/adit": {"auth", "certs", "mux", "internal/clientd", "internal/config", "internal/daemon", "internal/demo", "internal/diagnose", "internal/extendedconnect", "internal/hint", "internal/manpage", "internal/serverd", "internal/statusview", "internal/terminal", "internal/textfile"},
	// The logic of the commands.
	"internal/serverd":     {"server", "server/demopage", "mux", "auth", "certs", "systemd", "admin", "internal/audit", "internal/config", "internal/daemon", "internal/hint", "internal/metrics"},
	"internal/clientd":     {"client", "mux", "tunnel", "tunnel/dial", "certs", "systemd", "admin", "internal/config", "internal/daemon", "internal/hint"},
	"internal/daemon":      {"tunnel", "systemd", "admin", "internal/config", "internal/hint", "internal/logline", "internal/terminal"},
	"internal/diagnose":    {"mux", "tunnel/dial", "certs", "internal/hint", "internal/units"},
	"internal/demo":        {"client", "server", "server/demopage", "mux", "tunnel", "tunnel/dial", "tunnel/ws", "auth", "certs", "internal/units"},
	"internal/statusview":  {"client", "server", "admin", "internal/config", "internal/hint", "internal/logline", "internal/metrics", "internal/terminal", "internal/units"},
	"internal/manpage":     {"internal/config"},
	"internal/terminal":    {},
	"internal/units":       {},
	"internal/descriptors": {},
	// It looks at both, and changes nothing.
	"admin":  {"client", "server", "internal/metrics"},
	"client": {"mux", "tunnel", "tunnel/dial", "internal/descriptors", "internal/metrics", "internal/progress"},
	"server": {"server/demopage", "mux", "tunnel", "tunnel/ws", "auth", "internal/descriptors", "internal/dialout", "internal/metrics", "internal/audit", "internal/hint", "internal/progress"},
	"mux":    {"mux/link", "tunnel", "tunnel/ws"},
	// It knows neither streams nor yamux: see onlyPackage.
	"mux/link": {"tunnel", "tunnel/ws"},
	// These know nothing of the rest: each can be read, tested and used by itself.
	"tunnel":      {},
	"tunnel/ws":   {"tunnel"},
	"tunnel/dial": {"tunnel/ws", "tunnel"},
	"certs":       {"internal/textfile"},
	"auth":        {},
	"systemd":     {},
	// Its values are those that these take.
	"internal/config": {"server", "tunnel/dial", "auth", "internal/hint", "internal/textfile"},
	"internal/hint":   {},
	// Every text file is read by it.
	"internal/textfile": {},
	// Imported for its effect on net/http.
	"internal/extendedconnect": {},
	"internal/audit":           {"internal/logline"},
	"internal/logline":         {},
	// Either end of a session may use it: it knows neither.
	"internal/dialout":  {"mux", "tunnel", "internal/descriptors"},
	"internal/metrics":  {"mux"},
	"internal/progress": {},
	"internal/testnet":  {},
	"server/demopage":   {},
	"e2e":               {},
	// A program for releases.
	"packaging/sbom":  {},
	"packaging/image": {},
}

// onlyPackage says which package alone may import a module: all that it does is behind that.
var onlyPackage = map[string]string{"github.com/hashicorp/yamux": "mux"}

// emptyNames say nothing of what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "base", "lib"}

// onlyInCmd is what a library leaves to its program: ending the process, its environment, its
// signals, its standard streams. "*" after a name stands for all that begin with it.
var onlyInCmd = map[string][]string{
	"os":                              {"Exit", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv", "Args", "Stdin", "Stdout", "Stderr"},
	"os/signal":                       {"*"},
	"fmt":                             {"Print*", "Scan", "Scanln", "Scanf"},
	"log":                             {"Fatal*", "Panic*", "Print*", "Default", "SetOutput"},
	"log/slog":                        {"Debug*", "Info*", "Warn*", "Error*", "Log", "LogAttrs", "Default", "SetDefault", "With"},
	"net/http":                        {"ProxyFromEnvironment"},
	"golang.org/x/net/http/httpproxy": {"FromEnvironment"},
	"golang.org/x/net/proxy":          {"FromEnvironment*", "Dial"},
	"syscall":                         {"Exit", "Getenv", "Environ", "Kill"},
	"flag":                            {"*"},
}

// A source is one Go file of the module that is no test, whatever system it is for.
type source struct {
	pkg  string // directory below the module's root, with slashes; "." for the root
	file *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	set := token.NewFileSet()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() && name != "." {
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil { // another module
				return fs.SkipDir
			}
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(set, filepath.FromSlash(name), nil, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		all = append(all, source{path.Dir(name), file, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there is no Go file: the test runs in the wrong directory")
	}
	return all
}

func importPath(t *testing.T, spec *ast.ImportSpec) string {
	t.Helper()
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImportsGoOneWay(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := mayImport[s.pkg]
		if !known {
			t.Errorf("%s: package %s has no place in mayImport: decide what it may import", position(s, s.file), s.pkg)
			continue
		}
		for _, spec := range s.file.Imports {
			p := importPath(t, spec)
			if p == "C" {
				t.Errorf("%s: cgo, and the binary has to be static", position(s, spec))
			}
			if only, found := onlyPackage[p]; found && s.pkg != only {
				t.Errorf("%s: only %s may import %s", position(s, spec), only, p)
			}
			ours, found := strings.CutPrefix(p, module+"/")
			if found && !slices.Contains(allowed, ours) {
				t.Errorf("%s: %s must not import %s", position(s, spec), s.pkg, ours)
			}
		}
	}
}

func TestPackagesHaveTellingNames(t *testing.T) {
	for _, s := range sources(t) {
		for _, name := range append(strings.Split(s.pkg, "/"), s.file.Name.Name) {
			if slices.Contains(emptyNames, strings.ToLower(name)) {
				t.Errorf("%s: %q does not say what the package is for", position(s, s.file), name)
			}
		}
	}
}

func TestOnlyTheCommandTouchesTheProcess(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg == "cmd/adit" || s.file.Name.Name == "main" {
			continue
		}
		if s.pkg == "internal/extendedconnect" { // a part of the command: a setting for net/http
			continue
		}
		packages := make(map[string][]string) // a name in the file, and what it must not be used for
		for _, spec := range s.file.Imports {
			p := importPath(t, spec)
			forbidden, found := onlyInCmd[p]
			if !found {
				continue
			}
			name := path.Base(p)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			if name == "." {
				t.Errorf("%s: importing %s so hides what is used of it", position(s, spec), p)
			}
			packages[name] = forbidden
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || x.Obj != nil { // a variable of that name
					return true
				}
				if forbids(packages[x.Name], n.Sel.Name) {
					t.Errorf("%s: %s.%s belongs into cmd/adit: a library is given what it needs", position(s, n), x.Name, n.Sel.Name)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Obj == nil && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s: %s writes to the standard error output", position(s, n), f.Name)
				}
			}
			return true
		})
	}
}

// forbids reports whether one of the patterns matches name.
func forbids(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, found := strings.CutSuffix(p, "*"); found {
			return strings.HasPrefix(name, prefix)
		}
		return p == name
	})
}

func position(s source, n ast.Node) token.Position { return s.set.Position(n.Pos()) }

// TestTheBinaryIsPureGo looks at everything that is linked into the command.
func TestTheBinaryIsPureGo(t *testing.T) {
	for _, cgo := range []string{"0", "1"} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,CgoFiles,Error", "./cmd/adit")
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, &stderr)
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				ImportPath string
				Standard   bool
				CgoFiles   []string
				Error      *struct{ Err string }
			}
			err := decoder.Decode(&p)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("read the output of go list: %v", err)
			}
			switch {
			case p.Error != nil:
				t.Errorf("%s with CGO_ENABLED=%s: %s", p.ImportPath, cgo, p.Error.Err)
			case len(p.CgoFiles) > 0 && (cgo == "0" || !p.Standard):
				t.Errorf("%s uses cgo: %v", p.ImportPath, p.CgoFiles)
			case isForTests(p.ImportPath):
				t.Errorf("the binary contains %s, which is for tests", p.ImportPath)
			}
		}
	}
}

func isForTests(importPath string) bool {
	return importPath == "testing" || importPath == module+"/internal/testnet" ||
		strings.HasPrefix(importPath, "go.uber.org/goleak") || strings.HasPrefix(importPath, "github.com/rogpeppe/go-internal")
}
