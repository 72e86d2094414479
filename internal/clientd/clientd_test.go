package clientd

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/testnet"
	"adit/mux"
)

// environment is a Getenv.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// sourcesOf parses a command line of adit client.
func sourcesOf(t *testing.T, args ...string) config.Sources {
	t.Helper()
	flags := pflag.NewFlagSet("client", pflag.ContinueOnError)
	config.ClientFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return config.Sources{Flags: flags, Args: flags.Args()}
}

func load(t *testing.T, args ...string) *config.Client {
	t.Helper()
	c, faults := config.LoadClient(sourcesOf(t, append(args, "-L", "0:h:1", "wss://gw.example.com")...), true)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewListsEveryFault(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("two words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{
		Sources: sourcesOf(t, "--pin", "sha256:x", "--ca", "/missing.pem", "--token-file", token, "--proxy", "gopher://p", "-L", "0:h:1", "wss://gw.example.com"),
		Getenv:  environment{}.get, Stderr: io.Discard,
	})
	faults, ok := err.(config.Faults)
	if !ok {
		t.Fatalf("%v", err)
	}
	for _, origin := range []string{"--pin", "--ca", "--token-file", "--proxy"} {
		i := slices.IndexFunc(faults, func(f config.Fault) bool { return f.Origin == origin })
		if i < 0 || hint.Of(faults[i]) == "" {
			t.Errorf("no fault of %s, or without a hint, in\n%v", origin, err)
		}
	}
}

// With -W the log is for ssh's user, who did not ask for it. Faults of the
// configuration are logged all the same.
func TestStdioLogsNothingOfTheLink(t *testing.T) {
	for _, tt := range []struct {
		args            []string
		shows, warnings bool
	}{
		{[]string{"-L", "0:h:1"}, true, true},
		{[]string{"-W", "h:1"}, false, false},
		{[]string{"-W", "h:1", "--log-level", "info"}, true, true},
		{[]string{"-W", "h:1", "--log-level", "warn"}, false, true},
	} {
		var log bytes.Buffer
		d, err := New(Options{Sources: sourcesOf(t, append(tt.args, "wss://gw.example.com")...), Getenv: environment{}.get, Stderr: &log})
		if err != nil {
			t.Fatal(err)
		}
		d.Logger().Info("an event")
		if (log.Len() > 0) != tt.shows {
			t.Errorf("%q: the log is %q", tt.args, &log)
		}
		log.Reset()
		d.linkLog.Warn("link lost")
		if (log.Len() > 0) != tt.warnings {
			t.Errorf("%q: the log of the link is %q", tt.args, &log)
		}
		log.Reset()
		d.Logger().Warn("configuration warning")
		if log.Len() == 0 {
			t.Errorf("%q: no warning", tt.args)
		}
	}
}

// The client runs while no server answers, and ends with its context.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log := &untilText{text: "connect failed", found: cancel}
	d, err := New(Options{
		Sources: sourcesOf(t, "--proxy", "none", "-L", "127.0.0.1:0:h:1", "wss://"+testnet.RefusedAddr(t)),
		Getenv:  environment{}.get, Stderr: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	reload := make(chan os.Signal, 1)
	reload <- syscall.SIGHUP
	if err := d.Run(ctx, reload); err != nil {
		t.Error(err)
	}
}

// untilText calls found when the text is written.
type untilText struct {
	text  string
	found func()
}

func (u *untilText) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(u.text)) {
		u.found()
	}
	return len(p), nil
}

func TestAuthorization(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	get := authorization(load(t, "--token-file", file))
	expect := func(want string) {
		t.Helper()
		if got, err := get(); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	expect("Bearer first")
	write("token = \"second\"\n") // without a restart
	expect("Bearer second")
	write("two words")
	if _, err := get(); err == nil || !strings.Contains(hint.Of(err), "--user") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	get = authorization(load(t, "--token-file", file, "--user", "bob"))
	expect("Basic Ym9iOnR3byB3b3Jkcw==")
	get = authorization(load(t))
	expect("")
}

func TestProxyFromTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  environment
		want string
	}{
		{"none", nil, environment{}, ""},
		{"upper case", nil, environment{"HTTPS_PROXY": "http://a:1"}, "http://a:1"},
		{"lower case", nil, environment{"https_proxy": "http://a:1"}, "http://a:1"},
		{"the flag wins", []string{"--proxy", "http://b:2"}, environment{"HTTPS_PROXY": "http://a:1"}, "http://b:2"},
		{"excluded", nil, environment{"HTTPS_PROXY": "http://a:1", "NO_PROXY": ".example.com"}, ""},
	} {
		choose, err := chooseProxy(load(t, tt.args...), tt.env.get)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := ""
		if u, err := choose(&url.URL{Scheme: "https", Host: "gw.example.com:443"}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if u != nil {
			got = u.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// A CGI process gets a request header Proxy as HTTP_PROXY.
	choose, err := chooseProxy(load(t), environment{"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}.get)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := choose(&url.URL{Scheme: "http", Host: "gw.example.com:80"}); err != nil || u != nil {
		t.Errorf("%v, %v", u, err)
	}
}

func TestWarnings(t *testing.T) {
	c := load(t, "--insecure-skip-verify", "--server", "ws://gw.example.com", "--server", "ws://127.0.0.1")
	got := strings.Join(Warnings(c, environment{"NO_PROXY": "localhost [fd00::]/8 10.0.0.0/99,[fd01::1]"}.get), "\n")
	for _, want := range []string{"--insecure-skip-verify", `"10.0.0.0/99"`, "ws://gw.example.com"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "127.0.0.1") || strings.Contains(got, "localhost") || strings.Contains(got, "fd0") {
		t.Errorf("too much:\n%s", got)
	}
	if got := Warnings(load(t), environment{}.get); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// The hint of a refused --proxy with a password names the file as a better place.
func TestWarnsOfProxyPasswordInReadableFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.toml")
	for mode, warns := range map[os.FileMode]bool{0o644: true, 0o600: false} {
		if err := os.WriteFile(file, []byte("proxy = \"http://u:hunter2@p:1\"\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(Warnings(load(t, "--config", file), environment{}.get), "\n")
		if strings.Contains(got, "proxy's password: chmod 600 "+file) != warns || strings.Contains(got, "hunter2") {
			t.Errorf("mode %o: %q", mode, got)
		}
	}
}

func TestTarget(t *testing.T) {
	for in, want := range map[config.Address]mux.Target{
		{Network: "tcp", Address: "db.lan:5432"}: {Kind: mux.TCP, Address: "db.lan:5432"},
		{Network: "unix", Address: "/run/a"}:     {Kind: mux.Unix, Address: "/run/a"},
		{Network: "name", Address: "ssh"}:        {Kind: mux.Named, Address: "ssh"},
	} {
		if got := Target(in); got != want {
			t.Errorf("%v: %v", in, got)
		}
	}
}
