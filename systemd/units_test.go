package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installed is the path at which the units expect the program.
const installed = "/usr/local/bin/adit"

// units copies the unit files to a directory and replaces the path of adit by that of a program
// that exists on this machine, as systemd-analyze requires.
func units(t *testing.T) (dir string, names []string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs systemd-analyze and may not be skipped (CI=true)")
		}
		t.Skip("this test needs systemd-analyze (Debian package systemd)")
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("adit-*")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no unit files: %v", err)
	}
	dir = t.TempDir()
	for _, name := range files {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		unit = bytes.ReplaceAll(unit, []byte(installed), []byte(program))
		if err := os.WriteFile(filepath.Join(dir, name), unit, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, files
}

// analyze runs systemd-analyze on a unit.
func analyze(t *testing.T, dir, unit string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", append(args, filepath.Join(dir, unit))...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

// TestUnitsAreValid also fails on settings that this machine's systemd does not know.
func TestUnitsAreValid(t *testing.T) {
	dir, names := units(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			out := analyze(t, dir, name, "verify", "--man=no", "--recursive-errors=no")
			if strings.Contains(out, name) {
				t.Errorf("systemd-analyze reports:\n%s", out)
			}
		})
	}
}

// TestUnitsAreHardened fails on an exposure level above 1.5 of 10. The units explain what remains.
func TestUnitsAreHardened(t *testing.T) {
	dir, names := units(t)
	for _, name := range names {
		if !strings.HasSuffix(name, ".service") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out := analyze(t, dir, name, "security", "--no-pager", "--offline=true", "--threshold=15")
			lines := strings.Split(strings.TrimSpace(out), "\n")
			t.Log(lines[len(lines)-1])
		})
	}
}

// TestStandbyMatchesServer compares the standby's settings with the server's.
func TestStandbyMatchesServer(t *testing.T) {
	own := []string{
		"Sockets=adit-server.socket", "Environment=ADIT_LISTEN=systemd:adit-server.socket", // the only listener that both can share
		"Environment=ADIT_ADMIN_LISTEN=unix:/run/adit-standby/admin.sock", "RuntimeDirectory=adit-standby",
		"User=adit-server", "BindReadOnlyPaths=-/run/credentials/adit-server-standby.service:/run/credentials/adit-server.service",
		"Restart=no",
	}
	others := []string{"RuntimeDirectory=adit", "Restart=always", "RestartSec=2s"}
	want := slices.DeleteFunc(service(t, "adit-server.service"), func(s string) bool { return slices.Contains(others, s) })
	want = append(want, own...)
	got := service(t, "adit-server-standby.service")
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the standby has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// service returns the settings in a unit's section [Service].
func service(t *testing.T, name string) (settings []string) {
	t.Helper()
	unit, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(unit)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			inside = line == "[Service]"
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			settings = append(settings, line)
		}
	}
	return settings
}

// TestUnitsRunTheInstalledProgram checks the path that the Makefile replaces.
func TestUnitsRunTheInstalledProgram(t *testing.T) {
	for _, name := range []string{"adit-server.service", "adit-server-standby.service", "adit-client@.service"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(unit, []byte("\nExecStart="+installed+" ")) {
			t.Errorf("%s does not start %s", name, installed)
		}
	}
}

// The package says what its units need where systemd is too old for them.
func TestPackageNamesTheSystemdItNeeds(t *testing.T) {
	for version, warns := range map[string]bool{"249 (249.11-0ubuntu3)": true, "250 (250)": false, "252 (252.39-1~deb12u2)": false, "": false} {
		dir := t.TempDir()
		script := "#!/bin/sh\n[ \"$1\" != --version ] || echo 'systemd " + version + "'\n"
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("..", "packaging", "postinstall.sh"), "configure")
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "need systemd 250 or newer") != warns {
			t.Errorf("systemd %q: %v, output %q", version, err, out)
		}
	}
	nfpm, err := os.ReadFile(filepath.Join("..", "packaging", "nfpm.yaml"))
	if err != nil || !bytes.Contains(nfpm, []byte("systemd (>= 250)")) || !bytes.Contains(nfpm, []byte("systemd >= 250")) {
		t.Errorf("the package does not recommend it: %v", err)
	}
}
