package auth

import (
	"errors"
	"strings"
	"testing"
)

func TestRuleCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:22":               "127.0.0.1:22",
		" db.LAN.:5432 ":             "db.lan:5432",
		"*.Lan:80,443":               "*.lan:80,443",
		"*:*":                        "*:*",
		"*:1-65535":                  "*:*",
		"10.20.0.0/16:443":           "10.20.0.0/16:443",
		"10.20.3.4/32:443":           "10.20.3.4:443",
		"[::1]:22":                   "[::1]:22",
		"[FD00::/8]:443":             "[fd00::/8]:443",
		"[::ffff:10.0.0.1]:22":       "10.0.0.1:22",
		"[::ffff:10.0.0.0/104]:22":   "10.0.0.0/8:22",
		"8000-8100":                  "8000-8100",
		"443, 80,81,82-90,85-100":    "80-100,443",
		"1-65535":                    "1-65535",
		"unix:/run/app.sock":         "unix:/run/app.sock",
		"unix:/run/app/*":            "unix:/run/app/*",
		"unix:/*":                    "unix:/*",
		"ssh":                        "ssh",
		"my-db_2":                    "my-db_2",
		"_srv.example.com:1":         "_srv.example.com:1",
		"metadata.google.internal:*": "metadata.google.internal:*",
	} {
		r, err := ParseRule(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestRuleFaults(t *testing.T) {
	for in, reason := range map[string]string{
		"":                         "empty",
		"*":                        "ports or hosts",
		"10.0.0.1":                 "no port",
		"db.lan":                   "no port",
		"::1":                      "brackets",
		"::1:22":                   "brackets",
		"[::1]":                    "must end",
		"[10.0.0.1]:22":            "brackets",
		"[db.lan]:22":              "not an IP address",
		":22":                      "host is missing",
		"db.lan:":                  "port is missing",
		"db.lan:0":                 "not a port",
		"db.lan:65536":             "not a port",
		"db.lan:+1":                "not a port",
		"db.lan:http":              "not a port",
		"db.lan:90-80":             "backwards",
		"db.lan:1-":                "not a port",
		"db.lan:1,,2":              "not a port",
		"10.0.0.5/8:80":            "after its prefix",
		"10.0.0.0/33:80":           "not a CIDR",
		"[::ffff:0.0.0.0/90]:80":   "shorter than 96",
		"[fe80::1%eth0]:80":        "zone",
		"127.1:80":                 "not an IP address",
		"0x7f.0x1:80":              "not an IP address",
		"2130706433:80":            "not an IP address",
		"*lan:80":                  "nor a host name",
		"a.*.lan:80":               "nor a host name",
		"*.:80":                    "nor a host name",
		"*.10:80":                  "not an IP address",
		"bücher.example:80":        "not ASCII",
		"-a.lan:80":                "nor a host name",
		"a..lan:80":                "nor a host name",
		"unix:run/x":               "absolute",
		"unix:/run/../etc/x":       "shortest",
		"unix:/run//x":             "shortest",
		"unix:/run/*/x":            "control character",
		"unix:/":                   "no socket",
		"1ssh":                     "not the name of a target",
		"my ssh":                   "not the name of a target",
		"ssh\x00":                  "not the name of a target",
		strings.Repeat("a", 3000):  "longer than",
		strings.Repeat("1,", 1000): "more than",
	} {
		_, err := ParseRule(in)
		var re *RuleError
		if !errors.As(err, &re) || !strings.Contains(re.Reason, reason) {
			t.Errorf("%.60q: got %v, want %q", in, err, reason)
			continue
		}
		hinted(t, err)
	}
}

func TestRuleHintHasTheASCIIForm(t *testing.T) {
	for in, want := range map[string]string{"Bücher.example.:80": `"xn--bcher-kva.example"`, "*.bücher.example:80": `"*.xn--bcher-kva.example"`} {
		_, err := ParseRule(in)
		var re *RuleError
		if !errors.As(err, &re) || !strings.Contains(re.Hint(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"127.0.0.1:22", "*.lan:80,443", "8000-8100", "[fd00::/8]:1-2,*", "unix:/a/*", "unix:/*", "ssh",
		"[::ffff:1.2.3.0/120]:*", "*:*", "a.b.:1", "64:ff9b::/96:1", "0.0.0.0/0:*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			hinted(t, err)
			return
		}
		text := r.String()
		again, err := ParseRule(text)
		if err != nil {
			t.Fatalf("%q printed as %q, which fails: %v", s, text, err)
		}
		if again.String() != text || again.kind != r.kind || again.prefix != r.prefix || again.text != r.text {
			t.Fatalf("%q → %q → %q", s, text, again)
		}
	})
}
