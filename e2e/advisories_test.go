//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"adit/mux"
	"adit/tunnel/dial"
)

// The tests in advisories_access_test.go and advisories_protocol_test.go reproduce, against the
// binary, published advisories about similar programs. The table at the end of docs/security.md
// lists them.

// Every test that the table names exists.
func TestAdvisoriesTable(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(readFile(t, "../docs/security.md"), "## Advisories of the field")
	if !found {
		t.Fatal("docs/security.md has no chapter about advisories")
	}
	tests := regexp.MustCompile("((?:`\\w+`(?:, )?)+) \\(([\\w/]+)\\)")
	named := 0
	for line := range strings.Lines(table) {
		for _, m := range tests.FindAllStringSubmatch(line, -1) {
			files, err := filepath.Glob("../" + m[2] + "/*_test.go")
			if err != nil {
				t.Fatal(err)
			}
			var source strings.Builder
			for _, file := range files {
				source.WriteString(readFile(t, file))
			}
			for _, test := range regexp.MustCompile(`\w+`).FindAllString(m[1], -1) {
				named++
				if !strings.Contains(source.String(), "\nfunc "+test+"(") {
					t.Errorf("there is no test %s in %s", test, m[2])
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("%d tests are found in the table", named)
	}
}

// dialer returns a dialer with which tests act as a client other than adit client.
func (r *rig) dialer(t *testing.T, trust *tls.Config, authorization string) *dial.Options {
	t.Helper()
	return &dial.Options{TLS: trust, Authorization: func() (string, error) {
		return strings.TrimPrefix(authorization, "Authorization: "), nil
	}}
}

// session opens a session of the link protocol with the given credentials.
func (r *rig) session(t *testing.T, trust *tls.Config, authorization string) (*mux.Session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dial.Dial(ctx, "wss://"+r.server.addr+tunnelPath, r.dialer(t, trust, authorization))
	if err != nil {
		return nil, err
	}
	s, err := mux.Client(ctx, conn, &mux.Config{ResumeTimeout: -1})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { s.Close() })
	return s, nil
}

func (r *rig) mustSession(t *testing.T, authorization string) *mux.Session {
	t.Helper()
	s, err := r.session(t, r.pair.trust(t), authorization)
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	return s
}

// asks opens a stream and returns the code of the server's answer.
func asks(t *testing.T, s *mux.Session, kind mux.Kind, address string) mux.Code {
	t.Helper()
	st, err := s.Open(t.Context(), mux.Target{Kind: kind, Address: address})
	if err != nil {
		t.Fatalf("ask for %s: %v", address, err)
	}
	defer st.Close()
	err = st.Result()
	var refused *mux.RefusedError
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		t.Fatalf("ask for %s: %v", address, err)
	}
	return mux.Connected
}

func wantAnswer(t *testing.T, s *mux.Session, who, address string, want mux.Code) {
	t.Helper()
	if got := asks(t, s, mux.TCP, address); got != want {
		t.Errorf("%s asks for %s: %v, want %v", who, address, got, want)
	}
}

// command returns the argv of a subcommand. Arguments of the form NAME=VALUE become environment
// variables.
func command(subcommand string, args ...string) []string {
	argv := []string{"env"}
	var rest []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "ADIT_") {
			argv = append(argv, arg)
		} else {
			rest = append(rest, arg)
		}
	}
	return append(append(argv, aditBin, subcommand), rest...)
}

// exitStatus returns the exit status of a command that host.try has run.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
