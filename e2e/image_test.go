//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Addresses inside the container.
const (
	imageEcho  = "127.0.0.1:7000" // an echo backend
	imageLocal = "127.0.0.1:2222" // the client's forward to it
	imagePort  = "127.0.0.1:443"
)

// TestImage builds the container image of the Dockerfile without a registry and runs a server in it
// without any privilege.
func TestImage(t *testing.T) {
	needRoot(t)
	need(t, "buildah", "podman", "runc")
	c := newContainers(t)
	c.build(t)

	if config := c.run(t, "buildah", "inspect", "--type=image", "--format={{.Docker.Config.User}} {{.Docker.Config.ExposedPorts}} {{.Docker.Config.Entrypoint}}", aditImage); strings.TrimSpace(config) != "65532:65532 map[443/tcp:{}] [/adit]" {
		t.Errorf("the image has user, ports and entry point %q", config)
	}
	if out := c.run(t, "podman", c.sandbox(nil, "version")...); !strings.Contains(out, "adit") {
		t.Errorf("adit version prints %q", out)
	}

	alice := newAccount(t, c.machine, "alice")
	etc := workDir(t)
	writeFile(t, etc, "server.toml", fmt.Sprintf(`listen = [":443"]
[tls]
self-signed = "/var/lib/adit/tls"
[[target]]
name = "echo"
address = %q
`, imageEcho)+alice.users("echo"))
	const name = "adit-e2e-image"
	argv := append([]string{"podman"}, c.storage("podman")...)
	argv = append(argv, c.sandbox(
		[]string{"--name=" + name, "--volume=" + etc + ":/etc/adit:ro", "--volume=adit-state:/var/lib/adit"},
		"server", "--config", "/etc/adit/server.toml")...)
	server := c.machine.start(t, "podman run", spec{argv: argv})
	server.wait(t, `msg=listening`, 1)

	var pid int
	if _, err := fmt.Sscan(c.run(t, "podman", "inspect", "--format={{.State.Pid}}", name), &pid); err != nil {
		t.Fatalf("the process of the container: %v", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	unprivileged(t, "the container", string(status))

	inside := networkOf(t, "container", pid)
	echoBackend(t, inside.listen(t, imageEcho))
	pin := inside.adit(t, "pin", imagePort)
	client := inside.client(t, "--pin", strings.TrimSpace(pin), "--token-file", alice.tokenFile,
		"-L", imageLocal+":echo", "wss://"+imagePort+tunnelPath)
	if err := echoes(inside, imageLocal, 8<<20); err != nil {
		t.Errorf("a transfer through a server in a container: %v", err)
	}
	client.stop(t)
	server.stop(t)
}

// TestReleaseImage loads the image of the release and runs it without any privilege.
func TestReleaseImage(t *testing.T) {
	needRoot(t)
	need(t, "podman", "runc")
	r, c := released(t), newContainers(t)
	c.run(t, "podman", "load", "--quiet", "--input="+r.image)
	c.run(t, "podman", "tag", "localhost/adit:v"+releaseVersion, aditImage)
	if out := c.run(t, "podman", c.sandbox(nil, "version")...); !strings.HasPrefix(out, "adit v"+releaseVersion+" ") {
		t.Errorf("adit version prints %q", out)
	}
	if config := c.run(t, "podman", "image", "inspect", "--format={{.User}} {{.Architecture}}", aditImage); strings.TrimSpace(config) != "65532:65532 "+runtime.GOARCH {
		t.Errorf("the image has user and architecture %q", config)
	}
	// The directories that it writes to exist and belong to its user, and it has the CA
	// certificates.
	out := c.run(t, "podman", c.sandbox([]string{"--tmpfs=/tmp"}, "server", "--listen", "127.0.0.1:8443", "--self-signed", "/var/lib/adit/tls",
		"--allow-anonymous", "127.0.0.1:22", "--check-config")...)
	if !strings.Contains(out, "good") {
		t.Errorf("check-config prints %q", out)
	}
}

const aditImage = "localhost/adit:e2e"

// containers is a private image store and the tools that use it.
type containers struct {
	machine *host
	dir     string
}

func newContainers(t *testing.T) *containers {
	t.Helper()
	c := &containers{machine(t), workDir(t)}
	t.Cleanup(func() {
		// Kill what a failed test left running, and unmount the store before it is removed.
		for _, args := range [][]string{{"rm", "--all", "--force", "--time=0"}, {"unmount", "--all"}} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			exec.CommandContext(ctx, program(t, "podman"), append(c.storage("podman"), args...)...).Run()
			cancel()
		}
		removeCgroups("libpod_parent")
	})
	return c
}

// storage returns the options that select the private store and work without systemd.
func (c *containers) storage(tool string) []string {
	options := []string{"--root=" + filepath.Join(c.dir, "root"), "--runroot=" + filepath.Join(c.dir, "run")}
	if tool == "podman" {
		options = append(options, "--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=none")
	}
	return options
}

// sandbox returns the podman arguments that run the image with the fewest possible privileges, in a
// network namespace with only loopback.
func (c *containers) sandbox(options []string, args ...string) []string {
	argv := append([]string{"run", "--rm", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all",
		"--security-opt=no-new-privileges", "--network=none", "--sysctl=net.ipv4.ip_unprivileged_port_start=0",
		// The default limits may exceed those of this machine.
		"--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--log-driver=none"}, options...)
	return append(append(argv, aditImage), args...)
}

// run runs buildah or podman, waits for it and returns its output.
func (c *containers) run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	argv := append([]string{tool}, args[0])
	if tool == "podman" {
		argv = append(append([]string{tool}, c.storage(tool)...), args...)
	} else {
		argv = append(append(argv, c.storage(tool)...), args[1:]...)
	}
	out, err := c.machine.try(t, 5*time.Minute, "", argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// build builds the image. The base image is a small Debian with this machine's Go, and all modules
// come from this machine's cache: no network is needed.
func (c *containers) build(t *testing.T) {
	t.Helper()
	context, began := workDir(t), time.Now()
	base := writeFile(t, context, "Base", `FROM scratch
COPY . /
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV GOPATH=/go GOCACHE=/cache GOTOOLCHAIN=local GOPROXY=off
`)
	c.run(t, "buildah", "bud", "--isolation=chroot", "--quiet", "--file="+base,
		"--ignorefile="+writeFile(t, context, "ignore", "usr/share\nvar\n"),
		"--tag=localhost/golang:1.26-bookworm", debianRoot(t))
	t.Logf("base image: %v", time.Since(began).Round(time.Second))

	began = time.Now()
	c.run(t, "buildah", "bud", "--isolation=chroot", "--quiet", "--format=docker", "--pull-never",
		"--volume="+goEnv(t, "GOROOT")+":/usr/local/go:ro",
		"--volume="+goEnv(t, "GOMODCACHE")+":/go/pkg/mod",
		"--volume="+goEnv(t, "GOCACHE")+":/cache",
		"--tag="+aditImage, repositoryRoot(t))
	t.Logf("the image: %v", time.Since(began).Round(time.Second))
}

// goEnv returns a setting of the go command.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}
