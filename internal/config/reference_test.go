package config

import (
	"slices"
	"strings"
	"testing"

	"adit/auth"
)

// everySetting are those of both files and of all elements.
func everySetting() map[string][]*setting {
	all := map[string][]*setting{"client": new(Client).settings()}
	doc := new(Server).schema()
	all["server"] = doc.settings
	for _, e := range doc.elements {
		element, _ := e.add()
		all[e.name()] = element
	}
	return all
}

// An entry of a table is whole: names at all layers, words, and an example
// that is read without a fault.
func TestSettingsAreWhole(t *testing.T) {
	for table, settings := range everySetting() {
		element := table != "server" && table != "client"
		for _, s := range settings {
			if s.help == "" || strings.HasSuffix(s.help, ".") {
				t.Errorf("%s: %s: help %q", table, s.id(), s.help)
			}
			if s.doc != "" && !strings.HasSuffix(s.doc, ".") {
				t.Errorf("%s: %s: the paragraph has no full stop", table, s.id())
			}
			if s.key != "" && s.key != routeKey && s.example == "" {
				t.Errorf("%s: %s has no example", table, s.id())
			}
			if element || s.flag == "stdio" || s.secret || s.key == "site.proxy" { // which --site takes
				continue
			}
			if s.key == "" || s.envName() == "" || s.flag != "" && s.to.kind() != kindBoolean && s.arg == "" {
				t.Errorf("%s: key %q, variable %q, flag %q of %q: one is missing", table, s.key, s.envName(), s.flag, s.arg)
			}
		}
	}
}

// inForce is a reference file with all keys in force.
func inForce(doc *schema) string {
	var lines []string
	for line := range strings.SplitSeq(reference(doc), "\n") {
		if len(line) > 1 && line[0] == '#' && line[1] != ' ' {
			line = line[1:]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestReferenceExamplesAreGood(t *testing.T) {
	for _, doc := range []*schema{new(Server).schema(), new(Client).schema()} {
		l := newLoader()
		l.readTOML(doc.command, []byte(inForce(doc)), doc)
		if err := l.faults.Err(); err != nil {
			t.Error(err)
		}
	}
}

// With one choice made where there are several, the examples are a whole configuration, users and
// rules included.
func TestReferenceServerIsWhole(t *testing.T) {
	var lines []string
	for line := range strings.SplitSeq(inForce(new(Server).schema()), "\n") {
		key, _, _ := strings.Cut(line, " = ")
		others := []string{"self-signed", "off", "proxy", "acme-domains", "acme-email", "acme-directory", "acme-ca", "acme-cache", "users"}
		if !slices.Contains(others, key) || line == `users = ["alice"]` {
			lines = append(lines, line)
		}
	}
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", write(t, "server.toml", strings.Join(lines, "\n"))}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.NewUsers(s.Users); err != nil || len(s.Users) != 1 {
		t.Errorf("%d users: %v", len(s.Users), err)
	}
}

func TestReferenceClientIsWhole(t *testing.T) {
	whole := strings.Replace(inForce(new(Client).schema()), "insecure-skip-verify = true", "", 1)
	if _, faults := LoadClient(sources(t, ClientFlags, []string{"--config", write(t, "client.toml", whole)}), true); faults.Err() != nil {
		t.Fatal(faults)
	}
}
