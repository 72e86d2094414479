//go:build linux

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playMain(role))
	}
	goleak.VerifyTestMain(m)
}

// aditBinary returns the path of the command, which is built unless the environment names one.
func aditBinary(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("ADIT_BIN"); name != "" {
		return name
	}
	// Read every source file, so that go test does not use a cached result when one has changed.
	if err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case d != nil && d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case err == nil && filepath.Ext(name) == ".go":
			_, err = os.Stat(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "adit")
	build := exec.Command("go", "build", "-race=false", "-trimpath", "-o", file, "./cmd/adit")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// needNamespaces reports whether network namespaces and TUN devices can be made. With CI=true they
// must be.
func needNamespaces(t *testing.T) bool {
	t.Helper()
	_, tun := os.Stat("/dev/net/tun")
	_, ip := lookPath("ip")
	if os.Geteuid() == 0 && tun == nil && ip == nil {
		return true
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("paths need root, /dev/net/tun and ip, and CI=true")
	}
	t.Log("without the paths that need root, /dev/net/tun and ip")
	return false
}
