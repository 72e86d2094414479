//go:build linux

package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A booted is a Debian with systemd as its first process, in namespaces of its own. The embedded
// host is only its network; run, try and write reach its files and processes.
type booted struct {
	*host
	machine *host
	nspawn  *process
	init    int // process ID of its first process in this namespace
}

// boot boots a Debian with the given directories and files bound into it, as "FROM:TO". Other
// changes to its file system are discarded. It is powered off at the end of the test.
func boot(t *testing.T, binds ...string) *booted {
	t.Helper()
	needRoot(t)
	need(t, "systemd-nspawn", "nsenter")
	argv := []string{"systemd-nspawn", "--quiet", "--directory=" + debianRoot(t), "--volatile=overlay",
		"--register=no", "--private-network", "--boot", "--console=read-only", "--kill-signal=SIGRTMIN+3"}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		// This machine has no systemd that could create a unit for the container.
		argv = append(argv, "--keep-unit")
		t.Cleanup(func() { removeCgroups("payload", "supervisor") })
	}
	for _, b := range binds {
		argv = append(argv, "--bind="+b)
	}
	b := &booted{machine: machine(t)}
	// systemd-nspawn keeps its state in a /run that is private to the test.
	b.nspawn = isolated(t, "outside").start(t, "systemd-nspawn", spec{argv: argv})
	eventually(t, patience, "the machine has started", func() (err error) {
		if b.nspawn.ended() {
			t.Fatalf("systemd-nspawn ended: %v", b.nspawn.cmd.ProcessState)
		}
		b.init, err = initOf(b.nspawn.pid())
		return err
	})
	eventually(t, patience, "the machine is up", func() error {
		// "degraded" is good enough: some unit of Debian's fails on this kernel.
		out, err := b.try(t, "systemctl", "is-system-running")
		if state := strings.TrimSpace(out); state != "running" && state != "degraded" {
			return fmt.Errorf("state %q: %w", state, err)
		}
		return nil
	})
	b.host = networkOf(t, "booted", b.init)
	t.Cleanup(func() { b.powerOff(t) })
	return b
}

// networkOf returns a host in the network namespace of a process, and in this machine's other
// namespaces.
func networkOf(t *testing.T, name string, pid int) *host {
	t.Helper()
	return newHost(t, name, func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			return fmt.Errorf("open the network: %w", err)
		}
		defer ns.Close()
		return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	})
}

// try runs a command in the machine.
func (b *booted) try(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	return b.machine.try(t, 2*time.Minute, "", b.enter(argv...)...)
}

// enter returns the command that runs argv in the machine.
func (b *booted) enter(argv ...string) []string {
	return append([]string{"nsenter", "--all", fmt.Sprintf("--target=%d", b.init), "--"}, argv...)
}

// write creates a file in the machine.
func (b *booted) write(t *testing.T, path, content string) {
	t.Helper()
	b.machine.run(t, content, b.enter("sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "write", path)...)
}

// run runs a command in the machine, which has to succeed, and returns its output.
func (b *booted) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := b.try(t, argv...)
	if err != nil {
		t.Fatalf("in the booted machine: %v", err)
	}
	return out
}

// show returns one property of a unit.
func (b *booted) show(t *testing.T, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(b.run(t, "systemctl", "show", "--value", "--property="+property, unit))
}

// journal returns the log of the units. It works during the test's cleanup, too.
func (b *booted) journal(units string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "nsenter", "--all", fmt.Sprintf("--target=%d", b.init), "--",
		"journalctl", "--no-pager", "--output=short-monotonic", "--unit="+units).CombinedOutput()
	return string(out)
}

func (b *booted) powerOff(t *testing.T) {
	if b.nspawn.ended() {
		return
	}
	journal := strings.Split(b.journal("adit-*"), "\n")
	recordOutput("the journal in "+t.Name(), func() []string { return journal })
	b.nspawn.signal(t, syscall.SIGTERM)
	select {
	case <-b.nspawn.done:
	case <-time.After(patience):
		t.Errorf("the booted machine does not power off")
	}
}

// initOf finds the child of nspawn that is process 1 in its namespace.
func initOf(nspawn int) (int, error) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", nspawn))
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		for _, child := range strings.Fields(string(children)) {
			status, err := os.ReadFile("/proc/" + child + "/status")
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(status)) {
				ids := strings.Fields(line)
				if ids[0] == "NSpid:" && ids[len(ids)-1] == "1" {
					var pid int
					_, err := fmt.Sscan(child, &pid)
					return pid, err
				}
			}
		}
	}
	return 0, errors.New("nspawn has no such child yet")
}

// removeCgroups removes the cgroups that systemd-nspawn and podman leave behind on a machine
// without systemd.
func removeCgroups(names ...string) {
	for _, hierarchy := range []string{"", "*"} {
		for _, name := range names {
			found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", hierarchy, name))
			for _, top := range found {
				var dirs []string
				filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
					if err == nil && d.IsDir() {
						dirs = append(dirs, path)
					}
					return nil
				})
				for i := len(dirs) - 1; i >= 0; i-- {
					// Remove fails while a process is in the cgroup.
					os.Remove(dirs[i])
				}
			}
		}
	}
}

// debianPackages are added to the smallest Debian so that it boots, can be inspected and logged in
// to, and can build programs.
const debianPackages = "systemd,systemd-sysv,dbus,libnss-systemd,iproute2,ca-certificates,procps,openssh-server"

// debianRoot returns the file system of a small Debian. Making it takes most of a minute, so it is
// kept in the user's cache.
func debianRoot(t *testing.T) string {
	t.Helper()
	const suite = "bookworm"
	needRoot(t)
	recipe := sha256.Sum256([]byte(suite + debianPackages + runtime.GOARCH))
	cache := cacheDir(t)
	root := filepath.Join(cache, fmt.Sprintf("%s-%x", suite, recipe[:4]))

	// Several test processes may run at once: one of them makes it.
	lock, err := os.OpenFile(root+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatalf("lock the Debian cache: %v", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("lock the Debian cache: %v", err)
	}
	if _, err := os.Stat(root); err == nil {
		return root
	}
	need(t, "debootstrap")
	began := time.Now()
	unfinished := root + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		t.Fatalf("remove an unfinished Debian: %v", err)
	}
	argv := []string{"--variant=minbase", "--include=" + debianPackages, suite, unfinished}
	if mirror := debianMirror(suite); mirror != "" {
		argv = append(argv, mirror)
	}
	cmd := exec.CommandContext(t.Context(), program(t, "debootstrap"), argv...)
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, out)
	}
	if err := os.RemoveAll(filepath.Join(unfinished, "var/cache/apt")); err != nil {
		t.Fatalf("shrink the Debian: %v", err)
	}
	if err := os.Rename(unfinished, root); err != nil {
		t.Fatalf("keep the Debian: %v", err)
	}
	t.Logf("made a Debian in %v; cached in %s", time.Since(began).Round(time.Second), root)
	return root
}

// debianMirror returns the mirror that this machine uses, or "" for debootstrap's default.
func debianMirror(suite string) string {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Codename: "+suite, "Component: main").Output()
	if err != nil {
		return ""
	}
	mirror, _, _ := strings.Cut(string(out), "\n")
	return mirror
}

// cacheDir returns the directory for what is expensive to make.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		// There is no home directory.
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "adit-e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("make a cache: %v", err)
	}
	return dir
}
