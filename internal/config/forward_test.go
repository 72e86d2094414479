package config

import (
	"strings"
	"testing"

	"adit/internal/hint"
)

func TestParseForward(t *testing.T) {
	tests := []struct{ in, listen, target, canonical string }{
		{"5432:db.lan:5432", "tcp localhost:5432", "tcp db.lan:5432", "localhost:5432:db.lan:5432"},
		{"127.0.0.1:5432:db.lan:5432", "tcp 127.0.0.1:5432", "tcp db.lan:5432", ""},
		{"*:80:[2001:db8::5]:8080", "tcp :80", "tcp [2001:db8::5]:8080", "*:80:[2001:db8::5]:8080"},
		{":80:h:1", "tcp :80", "tcp h:1", "*:80:h:1"},
		{"[::1]:0:localhost:22", "tcp [::1]:0", "tcp localhost:22", ""},
		{"[fe80::1%eth0]:22:h:22", "tcp [fe80::1%eth0]:22", "tcp h:22", ""},
		{"2222:ssh", "tcp localhost:2222", "name ssh", "localhost:2222:ssh"},
		{"*:2222:ssh", "tcp :2222", "name ssh", ""},
		{"/run/a.sock:db:5432", "unix /run/a.sock", "tcp db:5432", ""},
		{"./a.sock:ssh", "unix ./a.sock", "name ssh", ""},
		{"unix:/run/a.sock:db:5432", "unix /run/a.sock", "tcp db:5432", "/run/a.sock:db:5432"},
		{"8080:/run/b.sock", "tcp localhost:8080", "unix /run/b.sock", "localhost:8080:/run/b.sock"},
		{"8080:unix:/run/b.sock", "tcp localhost:8080", "unix /run/b.sock", "localhost:8080:/run/b.sock"},
		{"*:8080:/run/b.sock", "tcp :8080", "unix /run/b.sock", ""},
		{"/a.sock:/b.sock", "unix /a.sock", "unix /b.sock", ""},
		{"systemd:pg:db:5432", "systemd pg", "tcp db:5432", ""},
		{"systemd:pg:ssh", "systemd pg", "name ssh", ""},
		{"tcp://1212:google.com:443", "tcp localhost:1212", "tcp google.com:443", "localhost:1212:google.com:443"},
		{"tcp://0.0.0.0:1212:google.com:443", "tcp 0.0.0.0:1212", "tcp google.com:443", "0.0.0.0:1212:google.com:443"},
		{"tcp://[::1]:1212:[::1]:443", "tcp [::1]:1212", "tcp [::1]:443", "[::1]:1212:[::1]:443"},
		{"unix:///tmp/w.sock:google.com:443", "unix /tmp/w.sock", "tcp google.com:443", "/tmp/w.sock:google.com:443"},
		{"3000", "tcp localhost:3000", "tcp 127.0.0.1:3000", "localhost:3000:127.0.0.1:3000"},
		{"3000:google.com:80", "tcp localhost:3000", "tcp google.com:80", "localhost:3000:google.com:80"},
		{"0.0.0.0:3000:host:80", "tcp 0.0.0.0:3000", "tcp host:80", ""},
		{"host:80", "tcp localhost:80", "tcp host:80", "localhost:80:host:80"},
		{"[::1]:80", "tcp localhost:80", "tcp [::1]:80", "localhost:80:[::1]:80"},
		{"3000:4000", "tcp localhost:3000", "tcp 127.0.0.1:4000", "localhost:3000:127.0.0.1:4000"},
		{"3000:host:80/tcp", "tcp localhost:3000", "tcp host:80", "localhost:3000:host:80"},
		{"08080:h:080", "tcp localhost:8080", "tcp h:80", "localhost:8080:h:80"},
	}
	for _, tt := range tests {
		f, err := ParseForward(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if got := f.Listen.Network + " " + f.Listen.Address; got != tt.listen {
			t.Errorf("%s: listen %q, want %q", tt.in, got, tt.listen)
		}
		if got := f.Target.Network + " " + f.Target.Address; got != tt.target {
			t.Errorf("%s: target %q, want %q", tt.in, got, tt.target)
		}
		want := tt.canonical
		if want == "" {
			want = tt.in
			if strings.HasPrefix(want, ":") {
				want = "*" + want
			}
		}
		if got := f.String(); got != want {
			t.Errorf("%s: String %q, want %q", tt.in, got, want)
		}
	}
}

func TestParseForwardErrors(t *testing.T) {
	tests := []struct{ in, says, hint string }{
		{"", "empty", "-L 5432:db.lan:5432"},
		{"ssh", `"ssh" has no port`, "-L 2222:ssh"},
		{"99999:h:1", `port "99999" is above 65535`, "8443"},
		{"80:h:0", "port 0", "127.0.0.1:22"},
		{"80:h:http", `port "http" is not a number`, "decimal port"},
		{"80:h:", "port is empty", "decimal port"},
		{"80:", "target is empty", "-L"},
		{"80:db.lan", `"db.lan" has no port`, "5432:db.lan:5432"},
		{"80:a b:80", `host "a b" contains ' '`, "host name"},
		{"80:1.2.3.256:80", "not an IPv4 address", "10.0.0.5"},
		{"80:[::1:80", `lacks its closing bracket`, "[::1]"},
		{"80:[::1]80", "colon must follow", "[::1]:8080"},
		{"80:[127.0.0.1]:80", "not an IPv6 address", "brackets"},
		{"80:2001:db8::5:80", "IPv6 address needs brackets", "[2001:db8::5]"},
		{"80:[fe80::1%eth0]:80", "zone", "brackets"},
		{"80:0.0.0.0:80", "every interface", "127.0.0.1"},
		{"80:*:80", `host "*"`, "127.0.0.1"},
		{"a:b:c:d:e", `port "b"`, "decimal"},
		{"1:b:2:d:e", "too many parts", "brackets"},
		{"localhost:ssh", `port "ssh" is not a number`, "decimal"},
		{"80:./x.sock", "absolute path", "-L 5432:/run"},
		{"/run/:h:80", "is a directory", "/run/adit/app.sock"},
		{"/" + strings.Repeat("x", 120) + ":h:80", "longer than 107", "short path"},
		{"/run/a.sock", "target is missing", "-L"},
		{"systemd:", "systemd:", "FileDescriptorName"},
		{"systemd:x", "target is missing", "-L"},
		{"udp://53:1.1.1.1:53", "udp:// is not in this release", "-L 5432:db.lan:5432"},
		{"1.1.1.1:53/udp", "/udp is not in this release", "TCP service"},
		{"R:2222:localhost:22", "reverse", "-L there"},
		{"socks", "SOCKS", "-L"},
		{"5000:socks", "SOCKS", "-L"},
		{"socks5://127.0.0.1:1080", "socks5://", "-L"},
		{"stdio:h:22", "-W", "-W db.lan:22"},
		{"http://h:22", "http://", "-L"},
		{"ftp://h:22", `scheme "ftp"`, "tcp://5432"},
		{"tcp:///run/a.sock:h:22", "needs a port to listen on", "unix:///run"},
		{"unix://80:h:22", "path of a socket", "unix:///run"},
		{"tcp://80:h:22?timeout_sec=5", "options after '?'", "tcp://5432"},
	}
	for _, tt := range tests {
		_, err := ParseForward(tt.in)
		if err == nil {
			t.Errorf("%q: accepted", tt.in)
			continue
		}
		if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: error %q does not say %q", tt.in, err, tt.says)
		}
		if !strings.Contains(hint.Of(err), tt.hint) {
			t.Errorf("%q: hint %q does not say %q", tt.in, hint.Of(err), tt.hint)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, s := range []string{"5432:db.lan:5432", "*:80:[::1]:8080", "2222:ssh", "/a:/b", "tcp://1:h:2", "unix:///a:h:1",
		"systemd:x:ssh", "3000", "h:80", "[fe80::1%e]:1:h:2", "80:[::ffff:1.2.3.4]:80", "unix:./x:unix:/y", "unix:////a://b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseForward(s)
		if err != nil {
			if hint.Of(err) == "" {
				t.Fatalf("%q: no hint: %v", s, err)
			}
			return
		}
		b, err := ParseForward(a.String())
		if err != nil {
			t.Fatalf("%q → %q: %v", s, a, err)
		}
		if a != b {
			t.Fatalf("%q → %+v → %q → %+v", s, a, a, b)
		}
	})
}
