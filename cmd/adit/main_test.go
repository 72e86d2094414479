package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"adit/certs"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"adit": main})
}

// The scripts start this test binary as adit.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		ContinueOnError:     true,
		Setup: func(env *testscript.Env) error {
			// Two certificates with their keys: tls/cert.pem, tls2/key.pem …
			for _, dir := range []string{"tls", "tls2"} {
				if _, _, err := certs.SelfSigned(filepath.Join(env.WorkDir, dir), []string{"localhost"}); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"refuses": refuses,
			"status":  status,
		},
	})
}

// refuses SAYS HINT COMMAND… runs a command that must end with exit status 2,
// a fault that contains SAYS, and below it a hint that contains HINT.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refuses SAYS HINT COMMAND [ARG…]")
	}
	if got := exitStatus(ts, args[2:]); got != 2 {
		ts.Fatalf("exit status %d, want 2", got)
	}
	lines := strings.Split(ts.ReadFile("stderr"), "\n")
	for i, line := range lines {
		if !strings.Contains(line, args[0]) || i+1 == len(lines) {
			continue
		}
		hint, ok := strings.CutPrefix(lines[i+1], "  hint: ")
		if !ok {
			ts.Fatalf("no hint below %q", line)
		}
		if !strings.Contains(hint, args[1]) {
			ts.Fatalf("the hint %q does not say %q", hint, args[1])
		}
		return
	}
	ts.Fatalf("no line of stderr says %q", args[0])
}

// status N COMMAND… runs a command that must end with exit status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitStatus(ts, args[1:]); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func exitStatus(ts *testscript.TestScript, command []string) int {
	err := ts.Exec(command[0], command[1:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}
