//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// aditBin is the binary under test, an absolute path.
var aditBin string

func TestMain(m *testing.M) {
	remove := func() {}
	aditBin = os.Getenv("ADIT_BIN")
	if aditBin == "" {
		dir, err := os.MkdirTemp("", "adit-e2e-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e: a directory for the binary:", err)
			os.Exit(1)
		}
		remove = func() { os.RemoveAll(dir) }
		// sshd runs the binary as other users, too.
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
		aditBin = filepath.Join(dir, "adit")
		build := exec.Command("go", "build", "-race=false", "-o", aditBin, "adit/cmd/adit")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: go build adit/cmd/adit: %v\n%s", err, out)
			remove()
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		remove()
		removeRelease()
		for _, fault := range disclosed(recordedSecrets(), recorded.outputs) {
			fmt.Fprintln(os.Stderr, "e2e: a secret was printed:", fault)
			code = 1
		}
		os.Exit(code)
	}))
}

// need skips the test if a program is missing. With CI=true the test fails instead, because a build
// machine must have all programs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := lookPath(name); err != nil {
			skipWithout(t, "the program "+name+" (./install.sh installs it)")
		}
	}
}

// needRoot skips the test, or fails it with CI=true, unless it runs as root: it makes network
// namespaces, mounts or processes of other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipWithout(t, "root, for network namespaces")
	}
}

func skipWithout(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and CI=true forbids to skip it", what)
	}
	t.Skipf("this test needs %s", what)
}

// lookPath is exec.LookPath that also searches where Debian keeps daemons and the PostgreSQL
// server.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, pattern := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin", "/usr/lib/squid", "/usr/lib/openssh"} {
		found, _ := filepath.Glob(filepath.Join(pattern, name))
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// program returns the path of a program that need has found.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := lookPath(name)
	if err != nil {
		t.Fatalf("find a program: %v", err)
	}
	return path
}

// workDir returns a new directory that is removed at the end of the test. Unlike that of t.TempDir
// other users can read it: squid, sshd and PostgreSQL drop root.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adit-e2e-")
	if err != nil {
		t.Fatalf("make a work directory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("open the work directory to others: %v", err)
	}
	return dir
}

// writeFile writes a file in dir and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
	return path
}
