package config

import (
	"strings"
	"testing"

	"adit/internal/hint"
)

func TestParseListen(t *testing.T) {
	for in, want := range map[string]string{
		":443":              ":443",
		"*:443":             ":443",
		"127.0.0.1:0":       "127.0.0.1:0",
		"[::1]:8443":        "[::1]:8443",
		"localhost:80":      "localhost:80",
		"unix:/run/a.sock":  "/run/a.sock",
		"/run/a.sock":       "/run/a.sock",
		"unix:///run/a":     "/run/a",
		"systemd:adit.sock": "adit.sock",
	} {
		a, err := ParseListen(in)
		if err != nil || a.Address != want {
			t.Errorf("%q: %+v, %v", in, a, err)
		}
		if again, err := ParseListen(a.String()); err != nil || again != a {
			t.Errorf("%q: String %q reads as %+v, %v", in, a, again, err)
		}
	}
	for in, says := range map[string]string{
		"":                "empty",
		"443":             "no colon",
		"host":            "no port",
		":http":           `"http" is not a number`,
		"1.2.3:80":        "not an IPv4",
		"::1:80":          "needs brackets",
		"a:b:c":           "too many colons",
		"unix:":           "must begin with /",
		"unix:run":        "must begin with /",
		"systemd:":        "empty",
		"systemd:a b":     "contains",
		"https://x:80":    "is a URL",
		"[::1":            "closing bracket",
		"h\u00f6st:80":    "xn--hst-sna",
		"a..b:80":         "empty or overlong label",
		"127.0.0.1:70000": "above 65535",
	} {
		_, err := ParseListen(in)
		if err == nil || !strings.Contains(err.Error(), says) || hint.Of(err) == "" {
			t.Errorf("%q: %v (hint %q), want %q", in, err, hint.Of(err), says)
		}
	}
}

func TestParseTargetAndStdio(t *testing.T) {
	for _, in := range []string{"0.0.0.0:22", "h:0", ":22", "systemd:x", "unix:./x", "http://h:1", "h"} {
		if _, err := ParseTarget(in); err == nil || hint.Of(err) == "" {
			t.Errorf("%q: %v", in, err)
		}
	}
	for in, want := range map[string]string{ // ssh -o ProxyCommand='adit client -W [%h]:%p …'
		"[db.lan]:22": "db.lan:22", "[10.0.0.5]:22": "10.0.0.5:22", "[2001:db8::5]:22": "[2001:db8::5]:22",
	} {
		if a, err := ParseStdio(in); err != nil || a != (Address{"tcp", want}) {
			t.Errorf("%s: %v, %v", in, a, err)
		}
	}
	// As in -L x:9000 and -L 9000, a port alone is one of the server.
	if a, err := ParseStdio("9000"); err != nil || a != (Address{"tcp", "127.0.0.1:9000"}) {
		t.Errorf("9000: %+v, %v", a, err)
	}
	if a, err := ParseStdio("ssh"); err != nil || a.Network != "name" {
		t.Errorf("ssh: %+v, %v", a, err)
	}
	if _, err := ParseStdio("db.lan"); err == nil || !strings.Contains(hint.Of(err), "-W db.lan:22") {
		t.Errorf("db.lan: %v", err)
	}
	if s, err := ParseHostPort("[2001:db8::1]:443"); err != nil || s != "[2001:db8::1]:443" {
		t.Errorf("%q, %v", s, err)
	}
}

func FuzzParseListen(f *testing.F) {
	for _, s := range []string{":443", "[::1]:8443", "unix:/a", "systemd:x", "h:1", "//", "///0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseListen(s)
		if err != nil {
			return
		}
		if b, err := ParseListen(a.String()); err != nil || a != b {
			t.Fatalf("%q → %+v → %q → %+v, %v", s, a, a, b, err)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add("h:1")
	f.Add("unix:/a")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseTarget(s)
		if err != nil {
			return
		}
		if b, err := ParseTarget(a.String()); err != nil || a != b {
			t.Fatalf("%q → %+v → %q → %+v, %v", s, a, a, b, err)
		}
	})
}
