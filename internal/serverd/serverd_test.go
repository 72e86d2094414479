package serverd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"adit/auth"
	"adit/internal/config"
	"adit/internal/hint"
)

// environment is a Getenv.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// optionsOf are those of a server with a configuration file.
func optionsOf(t *testing.T, file string, stderr io.Writer) Options {
	t.Helper()
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	config.ServerFlags(flags)
	if err := flags.Parse([]string{"--config", file}); err != nil {
		t.Fatal(err)
	}
	return Options{Sources: config.Sources{Flags: flags}, Getenv: environment{}.get, Stdout: io.Discard, Stderr: stderr}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each fault names the place of the setting, whichever package has found it.
func TestNewListsEveryFault(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.toml")
	write(t, file, `listen = [":0"]
audit = "/missing/audit.jsonl"
allow-anonymous = ["127.0.0.1:99999"]
[tls]
cert = "/missing/cert.pem"
key = "/missing/key.pem"
client-ca = "/missing/ca.pem"
[site]
root = "/missing/www"
[[user]]
name = "alice"
token-hash = "sha256:x"
allow = ["127.0.0.1:22", "*.lan:x"]
`)
	_, err := New(optionsOf(t, file, io.Discard))
	faults, ok := err.(config.Faults)
	if !ok {
		t.Fatal(err)
	}
	for _, origin := range []string{":2: audit", ":3: allow-anonymous", ":5: tls.cert", ":7: tls.client-ca", ":9: site.root", ":12: user.token-hash", ":13: user.allow"} {
		i := slices.IndexFunc(faults, func(f config.Fault) bool { return strings.HasSuffix(f.Origin, origin) })
		if i < 0 || hint.Of(faults[i]) == "" {
			t.Errorf("no fault of %s, or without a hint, in\n%v", origin, err)
		}
	}
}

// Routes are checked by the server, once nothing else is wrong.
func TestNewChecksRoutes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server.toml")
	const routes = "listen = [\"127.0.0.1:0\"]\ntls.off = true\n[[route]]\npath = \"/a\"\nbackend = [\"127.0.0.1:1\"]\n[[route]]\npath = \"/b\"\nbackend = [\"nowhere\"]\n"
	write(t, file, routes)
	if _, err := New(optionsOf(t, file, io.Discard)); err == nil || !strings.Contains(err.Error(), "server.toml:8: route.backend") || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
}

func TestCheckOnlyCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.toml")
	write(t, file, fmt.Sprintf("allow-anonymous = [\"127.0.0.1:1\"]\naudit = %q\n[tls]\nself-signed = %q\n", filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "tls")))
	o := optionsOf(t, file, io.Discard)
	o.CheckOnly = true
	if _, err := New(o); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// A log collects what the server logs.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// wait returns the submatches of the pattern once the log matches.
func (l *log) wait(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in\n%s", pattern, text)
		}
	}
}

// A reload puts a good configuration into force, and changes nothing for a bad one.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file, site := filepath.Join(dir, "server.toml"), filepath.Join(dir, "www")
	if err := os.Mkdir(site, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(site, "index.html"), "a directory")
	base := "listen = [\"127.0.0.1:0\"]\nallow-anonymous = [\"127.0.0.1:1\"]\n[tls]\noff = true\n"
	write(t, file, base)
	logged := new(log)
	d, err := New(optionsOf(t, file, logged))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	reload, done := make(chan os.Signal, 1), make(chan error, 1)
	go func() { done <- d.Run(ctx, reload) }()
	url := "http://" + logged.wait(t, `msg=listening addr=(\S+)`)[1] + "/"
	get := func() string {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	before := get()

	write(t, file, base+fmt.Sprintf("[site]\nroot = %q\n[[user]]\nname = \"bob\"\ntoken-hash = \"x\"\nallow = [\"127.0.0.1:1\"]\n", site))
	reload <- syscall.SIGHUP
	logged.wait(t, `msg="reload failed" error=.*user\.token-hash.* hint=`)
	if got := get(); got != before {
		t.Errorf("a failed reload changes the site to %q", got)
	}
	write(t, file, strings.Replace(base, "[tls]", "log-level = \"warn\"\ndrain-timeout = \"7s\"\n[tls]", 1)+
		fmt.Sprintf("[tunnel]\nresume-memory = 300\n[site]\nroot = %q\n[[user]]\nname = \"bob\"\ntoken-hash = %q\nallow = [\"127.0.0.1:1\"]\n", site, auth.HashToken("x")))
	reload <- syscall.SIGHUP
	logged.wait(t, `msg="setting requires a restart" key=tunnel\.resume-memory`)
	for deadline := time.Now().Add(time.Minute); get() != "a directory"; {
		if time.Now().After(deadline) {
			t.Fatal("the new site is not in force")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Many open routes are one warning, and a server with drain-delay serves on after the
// signal.
func TestOpenRoutesAndDrainDelay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server.toml")
	text := "listen = [\"127.0.0.1:0\"]\ndrain-delay = \"2s\"\ntls.off = true\n"
	for i := range 300 {
		text += fmt.Sprintf("[[route]]\npath = \"/%d\"\nbackend = [\"127.0.0.1:1\"]\n", i)
	}
	write(t, file, text)
	logged := new(log)
	d, err := New(optionsOf(t, file, logged))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, nil) }()
	url := "http://" + logged.wait(t, `msg=listening addr=(\S+)`)[1] + "/"
	logged.wait(t, `msg="routes are open to everyone" count=300 routes="/0=127\.0\.0\.1:1 .*/19=127\.0\.0\.1:1 …"`)
	logged.mu.Lock()
	if n := strings.Count(logged.text.String(), "open to everyone"); n != 1 {
		t.Errorf("%d lines", n)
	}
	logged.mu.Unlock()
	cancel()
	logged.wait(t, `msg=stopping .* delay=2s`)
	for deadline := time.Now().Add(time.Minute); d.server.Ready() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is ready")
		}
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatalf("it no longer serves: %v", err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStateDirectory(t *testing.T) {
	if got := stateDir(environment{"STATE_DIRECTORY": "/state/a:/state/b", "HOME": "/home/alice"}.get); got != "/state/a" {
		t.Errorf("of systemd: %s", got)
	}
	got := stateDir(environment{"HOME": "/home/alice", "XDG_STATE_HOME": "/home/alice/state"}.get)
	want := "/home/alice/state/adit"
	if os.Geteuid() == 0 || exists("/var/lib/adit") {
		want = "/var/lib/adit"
	}
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
