package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"adit/auth"
)

// A documented key of a reference file.
type documented struct {
	key     string // with its table, "tls.cert", "user.name"
	comment string // above it, on one line
	line    int
}

var (
	referenceKey   = regexp.MustCompile(`^#([a-z][a-z-]*) = \S`)
	referenceTable = regexp.MustCompile(`^#(\[\[?)([a-z]+)\]\]?$`)
)

// reference reads a reference file: its keys, and the file with all keys in force.
func reference(t *testing.T, name string) (keys []documented, inForce string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", name))
	if err != nil {
		t.Fatal(err)
	}
	table := ""
	var comment, out []string
	for i, line := range strings.Split(string(data), "\n") {
		if m := referenceTable.FindStringSubmatch(line); m != nil {
			table, line = m[2]+".", line[1:]
		} else if m := referenceKey.FindStringSubmatch(line); m != nil {
			keys = append(keys, documented{table + m[1], strings.Join(comment, " "), i + 1})
			line = line[1:]
		} else if line != "" && line != "#" && !strings.HasPrefix(line, "# ") {
			t.Errorf("%s:%d: neither a comment nor a key that is commented out: %q", name, i+1, line)
		}
		if text, ok := strings.CutPrefix(line, "# "); ok {
			comment = append(comment, strings.TrimSpace(text))
		} else {
			comment = nil
		}
		out = append(out, line)
	}
	return keys, strings.Join(out, "\n")
}

// The reference files document every key there is, with its default, flag and whether a change
// takes a restart, and no other; and their examples are good.
func TestReferenceFiles(t *testing.T) {
	server, client := &Server{}, &Client{}
	for _, file := range []struct {
		name     string
		doc      *schema
		settings []*setting
	}{
		{"server.toml", server.schema(), server.settings()},
		{"client.toml", client.schema(), client.settings()},
	} {
		t.Run(file.name, func(t *testing.T) {
			keys, inForce := reference(t, file.name)
			var want []string
			for _, s := range file.settings {
				if s.key != "" && s.key != routeKey {
					want = append(want, s.key)
				}
			}
			elements := map[string]*setting{}
			for table, newElement := range (&Server{}).tables() {
				if file.doc.tables[table] == nil {
					continue
				}
				element, _ := newElement()
				for _, s := range element {
					elements[table+"."+s.key] = s
					want = append(want, table+"."+s.key)
				}
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.key)
				if i := slices.IndexFunc(file.settings, func(s *setting) bool { return s.key == k.key }); i >= 0 {
					checkReference(t, file.name, k, file.settings[i])
				} else if elements[k.key] != nil && !strings.Contains(k.comment, "Default: ") && !strings.HasSuffix(k.comment, "Required.") {
					t.Errorf("%s:%d: %s: the comment says neither its default nor that it is required", file.name, k.line, k.key)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			for _, k := range want {
				if !slices.Contains(got, k) {
					t.Errorf("docs/reference/%s does not document %s", file.name, k)
				}
			}
			for i, k := range got {
				if !slices.Contains(want, k) || i > 0 && got[i-1] == k {
					t.Errorf("docs/reference/%s documents %s, which is not a key, or is there twice", file.name, k)
				}
			}
			l := &loader{origins: map[string]string{}, failed: map[string]bool{}}
			l.readTOML(file.name, []byte(inForce), file.doc)
			if err := l.faults.Err(); err != nil {
				t.Errorf("the examples: %v", err)
			}
		})
	}
}

func checkReference(t *testing.T, name string, k documented, s *setting) {
	t.Helper()
	says := func(what string) bool { return strings.Contains(k.comment, what) }
	switch {
	case s.def != "" && !says("Default: "+s.def+".") && !says(fmt.Sprintf("Default: %q", s.def)):
		t.Errorf("%s:%d: %s: the comment does not say the default, %s", name, k.line, s.key, s.def)
	case s.def == "" && !says("Default: ") && !says("Required."):
		t.Errorf("%s:%d: %s: the comment says neither a default nor that it is required", name, k.line, s.key)
	}
	if s.flag != "" && !says("Flag: --"+s.flag) {
		t.Errorf("%s:%d: %s: the comment does not say the flag, --%s", name, k.line, s.key, s.flag)
	}
	if says("A change takes a restart.") != s.restart {
		t.Errorf("%s:%d: %s: does a change take a restart? %v", name, k.line, s.key, s.restart)
	}
}

// With one choice made where there are several, the examples are a whole configuration, users and
// rules included.
func TestReferenceServerIsWhole(t *testing.T) {
	_, inForce := reference(t, "server.toml")
	var lines []string
	for line := range strings.SplitSeq(inForce, "\n") {
		switch key, _, _ := strings.Cut(line, " = "); key {
		case "self-signed", "off", "proxy", "acme-domains", "acme-email", "acme-directory", "acme-ca", "acme-cache", "users":
			if line != `users = ["alice"]` {
				continue
			}
		}
		lines = append(lines, line)
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
	_, inForce := reference(t, "client.toml")
	inForce = strings.Replace(inForce, "insecure-skip-verify = true", "", 1)
	if _, faults := LoadClient(sources(t, ClientFlags, []string{"--config", write(t, "client.toml", inForce)}), true); faults.Err() != nil {
		t.Fatal(faults)
	}
}
