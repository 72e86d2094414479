package adit_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The lines of the log that docs/logs.md explains are lines that the program writes.
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
				t.Errorf("docs/logs.md explains a line that nobody writes: %s", m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the table explains %d lines", rows)
	}
}

// sourceText is the text of the program: all Go files but tests and what stands beside the program.
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

// Links between documents lead somewhere.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(file), path)
			if path == "" {
				target = file
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: a link to %s: %v", file, m[1], err)
			} else if anchor != "" && !hasHeading(read(t, target), anchor) {
				t.Errorf("%s: there is no heading for %s", file, m[1])
			}
		}
	}
}

// hasHeading reports whether a document has the heading that an anchor names.
func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			title = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			if strings.ReplaceAll(title, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
