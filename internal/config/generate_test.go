package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files and the golden files")

const docs = "../../docs"

// The committed documents are those that the tables give: run go generate after
// a change of a table.
func TestGenerated(t *testing.T) {
	compare(t, filepath.Join(docs, "reference", "server.toml"), serverIntro+reference(new(Server).schema()))
	compare(t, filepath.Join(docs, "reference", "client.toml"), clientIntro+reference(new(Client).schema()))
	compare(t, filepath.Join(docs, "reference", "settings.md"), settingsPage())
	gateway := filepath.Join(docs, "gateway.md")
	compare(t, gateway, replaceBlock(t, gateway, "keys of [[route]]", keyTable(settingsOf(new(Server).schema(), routeKey))))
}

// docs/limits.md names the defaults of settings as the tables have them.
func TestDocumentedLimits(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(docs, "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc, rows := new(Server).schema(), 0
	for _, m := range regexp.MustCompile("(?m)^\\|.*\\| (\\d+)[^|]*\\| `([a-z.-]+)`(?: of `\\[\\[([a-z]+)\\]\\]`)? \\|").FindAllStringSubmatch(string(page), -1) {
		settings := doc.settings
		if m[3] != "" {
			settings = settingsOf(doc, m[3])
		}
		s := find(settings, m[2])
		if s == nil || regexp.MustCompile(`\d+`).FindString(s.defaultText()) != m[1] {
			t.Errorf("docs/limits.md: %s is not the default of %s", m[1], m[2])
		}
		rows++
	}
	if rows < 4 {
		t.Errorf("docs/limits.md names %d settings", rows)
	}
}

// compare compares a file with want; with -update it writes the file first.
func compare(t *testing.T, path, want string) {
	t.Helper()
	path = filepath.FromSlash(path)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			t.Fatalf("%s:%d differs from the table: run go generate ./internal/config\nwant %s", path, i+1, w[i])
		}
	}
	t.Fatalf("%s is longer than the table makes it: run go generate ./internal/config", path)
}

// replaceBlock returns a page with the text between <!-- begin NAME … --> and
// <!-- end NAME --> replaced.
func replaceBlock(t *testing.T, path, name, text string) string {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), "<!-- begin "+name)
	_, after, closed := strings.Cut(rest, "<!-- end "+name+" -->")
	if !found || !closed {
		t.Fatalf("%s has no block %q", path, name)
	}
	return before + "<!-- begin " + name + ": generated, see internal/config -->\n" + text + "<!-- end " + name + " -->" + after
}

const serverIntro = `# Every setting of adit server. Every key is commented out: copy the lines that
# you need into a file of your own, for example /etc/adit/server.toml, and check it
# with
#
#   adit server --config /etc/adit/server.toml --check-config
#
# A server needs a certificate, and somebody who may use it:
#
#   tls.self-signed = "/var/lib/adit/tls"
#   [[user]] with a name, a token-hash and an allow list; or a [[route]]
#
# A flag wins over its variable, a variable over this file, this file over the
# default. The variable of --tls-cert is ADIT_TLS_CERT, and so for all flags. List
# items are separated by blanks or newlines in a variable, and given by repeating a
# flag. A higher layer replaces a list. The file itself is --config FILE or
# ADIT_CONFIG.
#
# Durations are texts with a unit: "500ms", "30s", "5m", "1h30m". Relative paths
# start at the working directory; "~" is not expanded.
#
# SIGHUP (systemctl reload) reads the file again and applies all of it at once, but
# for the keys that say "A change requires a restart.": if one of these has
# changed, the log names it. A file with a fault changes nothing. Open connections
# survive a reload, except those of a user who is gone, or whose token-hash or
# cert-name has changed.
`

const clientIntro = `# Every setting of adit client and adit check. Every key is commented out: copy the
# lines that you need into a file of your own, for example /etc/adit/client.toml,
# and check it with
#
#   adit client --config /etc/adit/client.toml --check-config
#   adit check --config /etc/adit/client.toml
#
# A client needs three lines: server, token-file and forward.
#
# A flag wins over its variable, a variable over this file, this file over the
# default. The variable of --token-file is ADIT_TOKEN_FILE, and so for all flags.
# List items are separated by blanks or newlines in a variable, and given by
# repeating a flag. A higher layer replaces a list. The file itself is --config FILE
# or ADIT_CONFIG. The token itself may be in ADIT_TOKEN, never in a flag or in this
# file.
#
# Durations are texts with a unit: "500ms", "30s", "5m". Relative paths start at the
# working directory; "~" is not expanded.
#
# The file is read at the start: every change requires a restart. The files that it
# names (token, certificate, key) are read for each new link.
`

// reference writes a configuration file in which every key is commented out.
func reference(doc *schema) string {
	var b strings.Builder
	for _, g := range doc.groups {
		b.WriteString("\n# " + strings.Repeat("-", 75) + "\n" + wrap(g.doc, "# ", width))
		settings, prefix := settingsOf(doc, g.table), g.table+"."
		switch {
		case doc.array(g.table) != nil:
			b.WriteString("#[[" + g.table + "]]\n")
		case g.table != "":
			b.WriteString("#[" + g.table + "]\n")
		}
		for _, s := range settings {
			b.WriteString("\n" + wrap(paragraph(s), "# ", width) + wrap(facts(s), "# ", width))
			fmt.Fprintf(&b, "#%s = %s\n", strings.TrimPrefix(s.key, prefix), s.example)
		}
	}
	return b.String()
}

const width = 84

// settingsOf returns the settings of a table of a file: the top's, a [table]'s
// or a [[table]]'s.
func settingsOf(doc *schema, table string) []*setting {
	if array := doc.array(table); array != nil {
		element, _ := array.add()
		return element
	}
	var settings []*setting
	for _, s := range doc.settings {
		in, _, dotted := strings.Cut(s.key, ".")
		if !dotted {
			in = ""
		}
		if in == table && s.key != "" && s.key != routeKey {
			settings = append(settings, s)
		}
	}
	return settings
}

// paragraph says what a setting does.
func paragraph(s *setting) string {
	if s.doc != "" {
		return s.doc
	}
	return strings.ToUpper(s.help[:1]) + s.help[1:] + "."
}

// facts are the default, the values, the flag, and whether a change requires a
// restart.
func facts(s *setting) string {
	facts := []string{"Default: " + s.defaultText() + "."}
	if s.required {
		facts[0] = "Required."
	}
	if values := values(s); values != "" {
		facts = append(facts, "Values: "+values+".")
	}
	if s.flag != "" {
		names := "--" + s.flag
		if s.short != "" {
			names += ", -" + s.short
		}
		facts = append(facts, "Flag: "+names+".")
	}
	if s.restart {
		facts = append(facts, "A change requires a restart.")
	}
	return strings.Join(facts, " ")
}

// values are the bounds or choices of a setting.
func values(s *setting) string {
	var words []string
	for _, c := range s.to.choices() {
		words = append(words, quoted(c))
	}
	if words != nil {
		return either(words)
	}
	return s.to.bounds()
}

// settingsPage is docs/reference/settings.md.
func settingsPage() string {
	var b strings.Builder
	b.WriteString(`# Settings: every key, flag and variable

Every setting of adit server and adit client: its key in the configuration file, its flag, its
environment variable, its default and its meaning. [server.toml](server.toml) and
[client.toml](client.toml) have the same as commented files, with a paragraph for each key. This page
is generated: see internal/config.

A flag wins over the variable, the variable over the file, the file over the default. *R*: a change
requires a restart of the server; the server applies all others on SIGHUP. The client reads its
configuration at the start.
`)
	for _, end := range []struct {
		name string
		doc  *schema
	}{{"server", new(Server).schema()}, {"client", new(Client).schema()}} {
		fmt.Fprintf(&b, "\n## adit %s\n\n| key | flag | variable | default | meaning |\n|---|---|---|---|---|\n", end.name)
		var arrays []string
		for _, g := range end.doc.groups {
			if end.doc.array(g.table) != nil {
				arrays = append(arrays, g.table)
				continue
			}
			for _, s := range settingsOf(end.doc, g.table) {
				settingsRow(&b, s)
			}
		}
		for _, s := range append(end.doc.settings, configFile) {
			if s.key == "" || s.key == routeKey {
				settingsRow(&b, s)
			}
		}
		for _, name := range arrays {
			fmt.Fprintf(&b, "\n### [[%s]]\n\n%s", name, keyTable(settingsOf(end.doc, name)))
		}
	}
	return b.String()
}

func settingsRow(b *strings.Builder, s *setting) {
	key, flag := code(s.key), ""
	if s.key == routeKey {
		key = "`[[route]]`"
	}
	if s.flag != "" {
		flag = code("--" + s.flag)
		if s.short != "" {
			flag += ", " + code("-"+s.short)
		}
	}
	meaning := s.usage()
	if values := s.to.bounds(); values != "" {
		meaning += "; " + values
	}
	if s.restart {
		meaning += ". *R*"
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", key, flag, code(s.envName()), cell(defaultCell(s)), cell(meaning))
}

// keyTable writes the keys of an element as a table, with their paragraphs.
func keyTable(settings []*setting) string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, s := range settings {
		meaning := strings.Join(strings.Fields(paragraph(s)), " ")
		if values := values(s); values != "" {
			meaning += " Values: " + values + "."
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", code(s.key), cell(defaultCell(s)), cell(meaning))
	}
	return b.String()
}

func defaultCell(s *setting) string {
	if s.required {
		return "required"
	}
	return s.defaultText()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
