//go:build linux

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What must be in no output of any process, for TestMain to look when all tests are over: the secrets
// that tests make, by what they are, and the outputs.
var overheard struct {
	sync.Mutex
	secrets map[string]string
	outputs []output
}

type output struct {
	of    string
	lines func() []string
}

// secret notes a secret that a test has made, and returns it.
func secret(what, text string) string {
	overheard.Lock()
	defer overheard.Unlock()
	if overheard.secrets == nil {
		overheard.secrets = map[string]string{}
	}
	overheard.secrets[text] = what
	return text
}

// overhear notes what a process has said, or will have by the end.
func overhear(of string, lines func() []string) {
	overheard.Lock()
	defer overheard.Unlock()
	overheard.outputs = append(overheard.outputs, output{of, lines})
}

// secretForms are what secrets look like that nobody noted.
var secretForms = []struct {
	what string
	form *regexp.Regexp
}{
	{"a token", regexp.MustCompile(`adit_[A-Za-z0-9_-]{43}`)},
	{"a token as a subprotocol", regexp.MustCompile(`adit\.token\.[A-Za-z0-9_-]`)},
	{"credentials of a request", regexp.MustCompile(`(?i)(bearer|basic) +[a-z0-9+/_-]{7,}=*`)},
	{"a ticket", regexp.MustCompile(`ticket=[A-Za-z0-9_-]{40}`)},
}

// meant says that a command line is to print a secret.
func meant(argv []string) bool {
	i := slices.Index(argv, aditBin)
	return i >= 0 && i+1 < len(argv) && (argv[i+1] == "token" || argv[i+1] == "demo")
}

// disclosed lists the secrets in what was overheard.
func disclosed(secrets map[string]string, outputs []output) []string {
	var faults []string
	for _, o := range outputs {
		for _, line := range o.lines() {
			for text, what := range secrets {
				if strings.Contains(line, text) {
					faults = append(faults, fmt.Sprintf("%s says %s: %.300s", o.of, what, line))
				}
			}
			for _, s := range secretForms {
				if s.form.MatchString(line) {
					faults = append(faults, fmt.Sprintf("%s says %s: %.300s", o.of, s.what, line))
				}
			}
		}
	}
	return faults
}

// The look at the end finds what it is for.
func TestSecretsAreFound(t *testing.T) {
	token := "adit_" + strings.Repeat("A", 43)
	for line, want := range map[string]int{
		"nothing": 0,
		`msg="authentication failed" reason="neither Bearer nor Basic"`: 0,
		"the ticket= is malformed":                                      0,
		"[  OK  ] Reached target basic.target - Basic System.":          0,
		"token=" + token:                                1,
		`Authorization:[Bearer c29tZXRoaW5n]`:           1,
		`authorization: basic YWxpY2U6b3BlbnNlc2FtZQ==`: 1,
		"adit, adit.token.xyz":                          1,
		"GET /json?ticket=" + strings.Repeat("a", 80):   1,
		"password is open-sesame!":                      1,
	} {
		got := disclosed(map[string]string{"open-sesame": "a password"}, []output{{"x", func() []string { return []string{line} }}})
		if len(got) != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	for _, test := range []struct {
		argv []string
		want bool
	}{
		{[]string{aditBin, "token", "alice"}, true}, {[]string{"env", "X=y", aditBin, "demo"}, true},
		{[]string{aditBin, "server"}, false}, {[]string{"sh", "token"}, false}, {[]string{aditBin}, false},
	} {
		if meant(test.argv) != test.want {
			t.Errorf("%q", test.argv)
		}
	}
}
