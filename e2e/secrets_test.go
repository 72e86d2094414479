//go:build linux

package e2e

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// recorded holds the secrets that tests make, with a description of each, and the outputs of all
// processes. TestMain checks at the end that no output contains a secret.
var recorded struct {
	sync.Mutex
	secrets map[string]string
	outputs []output
}

type output struct {
	of    string
	lines func() []string
}

// secret records a secret that a test has made, and returns it.
func secret(what, text string) string {
	recorded.Lock()
	defer recorded.Unlock()
	if recorded.secrets == nil {
		recorded.secrets = map[string]string{}
	}
	recorded.secrets[text] = what
	return text
}

// recordedSecrets returns the secrets so far. Tests may add others at the same time.
func recordedSecrets() map[string]string {
	recorded.Lock()
	defer recorded.Unlock()
	return maps.Clone(recorded.secrets)
}

// recordOutput records the output of a process. lines is called at the end.
func recordOutput(of string, lines func() []string) {
	recorded.Lock()
	defer recorded.Unlock()
	recorded.outputs = append(recorded.outputs, output{of, lines})
}

// secretForms match secrets that were not recorded.
var secretForms = []struct {
	what string
	form *regexp.Regexp
}{
	{"a token", regexp.MustCompile(`adit_[A-Za-z0-9_-]{43}`)},
	{"a token as a subprotocol", regexp.MustCompile(`adit\.token\.[A-Za-z0-9_-]`)},
	{"a token of a request", regexp.MustCompile(`(?i)\bbearer +[a-z0-9+/._~-]{6,}`)},
	{"a ticket", regexp.MustCompile(`ticket=[A-Za-z0-9_-]{40}`)},
}

var basicForm = regexp.MustCompile(`(?i)\bbasic +([a-z0-9+/]{4,})`)

// hasBasic reports whether a line contains the NAME:PASSWORD of HTTP Basic authentication, and not
// merely a word after "basic".
func hasBasic(line string) bool {
	for _, m := range basicForm.FindAllStringSubmatch(line, -1) {
		userinfo, err := base64.RawStdEncoding.DecodeString(m[1])
		if err == nil && utf8.Valid(userinfo) && strings.Contains(string(userinfo), ":") {
			return true
		}
	}
	return false
}

// withoutHeaderDump removes the headers of requests that Go itself prints because a test set
// GODEBUG=http2debug=2.
func withoutHeaderDump(env []string, lines func() []string) func() []string {
	if !slices.Contains(env, "GODEBUG=http2debug=2") {
		return lines
	}
	return func() []string {
		return slices.DeleteFunc(slices.Clone(lines()), regexp.MustCompile(`^\d{4}/\d\d/\d\d [\d:]+ http2: `).MatchString)
	}
}

// printsSecret reports whether a command prints a secret on purpose.
func printsSecret(argv []string) bool {
	i := slices.Index(argv, aditBin)
	return i >= 0 && i+1 < len(argv) && (argv[i+1] == "token" || argv[i+1] == "demo")
}

// disclosed returns the secrets that are in the outputs.
func disclosed(secrets map[string]string, outputs []output) []string {
	var faults []string
	for _, o := range outputs {
		for _, line := range o.lines() {
			for text, what := range secrets {
				if strings.Contains(line, text) {
					faults = append(faults, fmt.Sprintf("%s says %s: %.300s", o.of, what, line))
				}
			}
			if hasBasic(line) {
				faults = append(faults, fmt.Sprintf("%s says a password of a request: %.300s", o.of, line))
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

// disclosed finds each kind of secret.
func TestSecretsAreFound(t *testing.T) {
	token := "adit_" + strings.Repeat("A", 43)
	for line, want := range map[string]int{
		"nothing": 0,
		`msg="authentication failed" reason="the Authorization scheme is neither Bearer nor Basic"`: 0,
		"the ticket= is malformed":                             0,
		"Shutdown: Basic authentication.":                      0,
		"[  OK  ] Reached target basic.target - Basic System.": 0,
		"token=" + token:                                       1,
		`Authorization:[Bearer c29tZXRoaW5n]`:                  1,
		`authorization: basic YWxpY2U6b3BlbnNlc2FtZQ==`:        1,
		"adit, adit.token.xyz":                                 1,
		"GET /json?ticket=" + strings.Repeat("a", 80):          1,
		"password is open-sesame!":                             1,
	} {
		got := disclosed(map[string]string{"open-sesame": "a password"}, []output{{"x", func() []string { return []string{line} }}})
		if len(got) != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	said := func() []string {
		return []string{"2026/11/22 17:14:08 http2: decoded " + token, "time=2026-11-22T17:14:08Z http2: " + token}
	}
	if got := withoutHeaderDump([]string{"GODEBUG=http2debug=2"}, said)(); len(got) != 1 || !strings.HasPrefix(got[0], "time=") {
		t.Errorf("%q", got)
	}
	if got := withoutHeaderDump(nil, said)(); len(got) != 2 {
		t.Errorf("%q", got)
	}
	for _, test := range []struct {
		argv []string
		want bool
	}{
		{[]string{aditBin, "token", "alice"}, true}, {[]string{"env", "X=y", aditBin, "demo"}, true},
		{[]string{aditBin, "server"}, false}, {[]string{"sh", "token"}, false}, {[]string{aditBin}, false},
	} {
		if printsSecret(test.argv) != test.want {
			t.Errorf("%q", test.argv)
		}
	}
}
