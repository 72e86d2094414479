package adit_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every log message that docs/logs.md explains is one that the program writes.
func TestDocumentedLogLines(t *testing.T) {
	source := sourceText(t)
	rows, inTable := 0, false
	for row := range strings.Lines(read(t, "docs/logs.md")) {
		inTable = strings.HasPrefix(row, "| line |") || inTable && strings.HasPrefix(row, "|")
		cells := strings.Split(row, "|")
		if !inTable || len(cells) < 2 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			rows++
			if !isWritten(source, m[1]) {
				t.Errorf("docs/logs.md explains a message that the program does not write: %s", m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the table explains %d messages", rows)
	}
}

// sourceText returns all Go code of the program itself: no tests, no tools.
func sourceText(t *testing.T) string {
	t.Helper()
	var source strings.Builder
	for _, name := range filesOf(t, ".go") {
		if dir, _, _ := strings.Cut(name, "/"); dir != "bench" && dir != "e2e" && dir != "packaging" && !strings.HasSuffix(name, "_test.go") {
			source.WriteString(read(t, name))
		}
	}
	return source.String()
}

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	return filesOf(t, ".md")
}

// filesOf returns the files with an extension, with slashes, outside of hidden directories and dist.
func filesOf(t *testing.T, extension string) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (name == "dist" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, extension):
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// isWritten reports whether a message is a text of the source, or is put together of two.
func isWritten(source, message string) bool {
	if strings.Contains(source, `"`+message) {
		return true
	}
	for i := range message {
		if strings.Contains(source, `"`+message[:i]+`"`) && strings.Contains(source, `"`+message[i:]+`"`) {
			return true
		}
	}
	return false
}

// Links between documents lead somewhere, and so do their anchors.
func TestDocumentLinks(t *testing.T) {
	for _, file := range documents(t) {
		for _, fault := range linkFaults(t, file, read(t, file)) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	for text, want := range map[string]int{
		"# One\n\n[a](#one) [b](docs/protocol.md#resumption) [c](https://example.com/)": 0,
		"[a](#two)":                  1,
		"[b](docs/protocol.md#gone)": 1,
		"[c](docs/gone.md)":          1,
		"![d](docs/images/gone.png)": 1,
		"```\n[e](gone)\n```":        0,
	} {
		if faults := linkFaults(t, "README.md", text); len(faults) != want {
			t.Errorf("%q: faults %q, want %d", text, faults, want)
		}
	}
}

// linkFaults returns what is wrong with the relative links of a Markdown file.
func linkFaults(t *testing.T, file, text string) (faults []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		name, anchor, _ := strings.Cut(m[1], "#")
		target := path.Join(path.Dir(file), name)
		if name == "" {
			target = file
		} else if _, err := os.Stat(target); err != nil {
			faults = append(faults, fmt.Sprintf("link to %s: %v", m[1], err))
			continue
		}
		if anchor == "" {
			continue
		}
		linked := text
		if name != "" {
			linked = read(t, target)
		}
		if !slices.Contains(anchors(linked), anchor) {
			faults = append(faults, fmt.Sprintf("link to %s: no heading has this anchor", m[1]))
		}
	}
	return faults
}

// anchors returns the anchors of a Markdown text's headings, as GitHub makes them.
func anchors(text string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		title := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		list = append(list, strings.ReplaceAll(title, " ", "-"))
	}
	return list
}

// Paths of the repository that documents mention exist, and so do documents that anything else mentions.
func TestDocumentedPaths(t *testing.T) {
	for _, file := range documents(t) {
		for _, code := range codeOf(read(t, file)) {
			for _, fault := range pathFaults(repositoryPath, code) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
	for _, extension := range []string{".go", ".toml", ".sh", ".service", ".socket", ".conf", ".yml"} {
		for _, file := range filesOf(t, extension) {
			if file == "docs_test.go" { // has wrong paths below
				continue
			}
			for _, fault := range pathFaults(documentPath, read(t, file)) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
	for text, want := range map[string]int{
		"docs/protocol.md, ./mux and cmd/adit/main.go; /usr/share/adit/docs/x.md": 0,
		"systemd/*.service packaging/fail2ban/":                                   0,
		"mux/gone.go":                                                             1,
		"cp packaging/gone /tmp":                                                  1,
		"docs/gone.md, docs/*.txt":                                                2,
	} {
		if faults := pathFaults(repositoryPath, text); len(faults) != want {
			t.Errorf("%q: faults %q, want %d", text, faults, want)
		}
	}
}

var (
	documentPath   = regexp.MustCompile(`(?:^|[^\w/.…-])((?:\.\./)*docs/[\w*./-]+\.(?:md|toml|svg|png|yml|json))`)
	repositoryPath = regexp.MustCompile(`(?:^|[^\w/.…:-])((?:\.{1,2}/)*(?:admin|auth|bench|certs|client|cmd|docs|e2e|internal|mux|packaging|server|systemd|tunnel)/[\w*./-]+)`)
)

// pathFaults returns the paths in a text that match nothing in the repository.
func pathFaults(pattern *regexp.Regexp, text string) (faults []string) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		name := strings.TrimRight(strings.TrimLeft(m[1], "./"), ".")
		if found, err := filepath.Glob(filepath.FromSlash(name)); err != nil || len(found) == 0 {
			faults = append(faults, fmt.Sprintf("there is no %s", name))
		}
	}
	return faults
}

// What documents say to be in a Go file is there.
func TestDocumentedNames(t *testing.T) {
	found := 0
	for _, file := range documents(t) {
		for _, m := range regexp.MustCompile("((?:`\\w+`(?: and |, )?)+) in `([\\w/]+\\.go)`").FindAllStringSubmatch(read(t, file), -1) {
			source := read(t, m[2])
			for _, name := range regexp.MustCompile(`\w+`).FindAllString(strings.ReplaceAll(m[1], " and ", " "), -1) {
				found++
				if !regexp.MustCompile(`\b` + name + `\b`).MatchString(source) {
					t.Errorf("%s: there is no %s in %s", file, name, m[2])
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("found %d names; the search for them is broken", found)
	}
}

// Tests that documents name exist.
func TestDocumentedTests(t *testing.T) {
	var tests strings.Builder
	for _, name := range filesOf(t, "_test.go") {
		tests.WriteString(read(t, name))
	}
	for _, file := range documents(t) {
		for _, m := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(read(t, file), -1) {
			if !strings.Contains(tests.String(), "func "+m+"(") {
				t.Errorf("%s: there is no test %s", file, m)
			}
		}
	}
}

// Documents do not use retired words, but in code.
func TestDocumentWords(t *testing.T) {
	for _, file := range documents(t) {
		text := strings.ToLower(inline.ReplaceAllString(fence.ReplaceAllString(read(t, file), ""), ""))
		for _, w := range retiredWords {
			if w.names {
				continue
			}
			if found := regexp.MustCompile(`\b(?:` + w.pattern + `)\b`).FindString(text); found != "" {
				t.Errorf("%s: %q is a retired word: use %q", file, found, w.use)
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
