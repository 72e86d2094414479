package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"adit/auth"
	"adit/internal/hint"
)

// sources parses a command line and fakes an environment.
func sources(t *testing.T, define func(*pflag.FlagSet), args []string, env ...string) Sources {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	define(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Sources{Flags: fs, Args: fs.Args(), LookupEnv: func(name string) (string, bool) {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v, true
			}
		}
		return "", false
	}}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodServer = `
listen = [":8443", "unix:/run/adit/x.sock"]
drain-timeout = "5s"
allow-anonymous = ["127.0.0.1:80"]
[tls]
cert = "/c.pem"
key = "/k.pem"
client-ca = "/ca.pem"
[tunnel]
path = "/t"
max-streams = 1_000
[[user]]
name = "alice"
token-hash = "sha256:00"
allow = ["127.0.0.1:22",
  "*.lan:80,443"]
max-sessions = 3
[[user]]
name = "bob"
cert-name = "bob@example.com"
allow = ["ssh"]
[[target]]
name = "ssh"
address = "127.0.0.1:22"
[site]
root = "/var/www"
`

func TestServerFile(t *testing.T) {
	path := write(t, "server.toml", goodServer)
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", path}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Listen); got != "[*:8443 unix:/run/adit/x.sock]" {
		t.Error(got)
	}
	want := []auth.User{
		{Name: "alice", TokenHashes: []string{"sha256:00"}, Allow: []string{"127.0.0.1:22", "*.lan:80,443"}, MaxSessions: 3},
		{Name: "bob", CertName: "bob@example.com", Allow: []string{"ssh"}},
	}
	if !reflect.DeepEqual(s.Users, want) {
		t.Errorf("users %+v", s.Users)
	}
	if len(s.Targets) != 1 || s.Targets[0].Address.Address != "127.0.0.1:22" {
		t.Errorf("targets %+v", s.Targets)
	}
	if s.DrainTimeout != 5*time.Second || s.TunnelPath != "/t" || s.MaxStreams != 1000 || s.SiteRoot != "/var/www" || s.Log.Format != "auto" {
		t.Errorf("%+v", s)
	}
	for key, want := range map[string]string{
		"user[0].allow[1]":  path + ":16: user.allow",
		"user[1]":           path + ":18: [[user]]",
		"tls.key":           path + ":7: tls.key",
		"listen[1]":         path + ":2: listen",
		"tls.acme-email":    "tls.acme-email",
		"user[0].cert-name": path + ":12: [[user]]",
	} {
		if got := s.Origin(key); got != want {
			t.Errorf("Origin(%s) = %q, want %q", key, got, want)
		}
	}
}

func TestInlineForms(t *testing.T) {
	path := write(t, "server.toml", `
tls = {cert = "/c", key = "/k"}
tunnel.path = "/x"
listen = ":1"
user = [{name = "a", token-hash = "h", allow = ["*:*"]}, {name = "b", token-hash = "h", allow = ["*:*"]}]
site = {root = "/w"}
`)
	s, faults := LoadServer(sources(t, ServerFlags, []string{"-c", path}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if s.TLS.Key != "/k" || s.TunnelPath != "/x" || len(s.Users) != 2 || s.Users[1].Name != "b" || s.SiteRoot != "/w" {
		t.Errorf("%+v", s)
	}
}

func TestPrecedence(t *testing.T) {
	path := write(t, "server.toml", goodServer)
	env := []string{"ADIT_CONFIG=" + path, "ADIT_TUNNEL_PATH=/env", "ADIT_LISTEN=:1 :2", "ADIT_DRAIN_TIMEOUT="}
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--tunnel-path=/flag", "--max-streams", "7"}, env...))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if s.TunnelPath != "/flag" || s.MaxStreams != 7 || fmt.Sprint(s.Listen) != "[*:1 *:2]" || s.DrainTimeout != 5*time.Second {
		t.Errorf("%+v", s)
	}
	if s.Origin("listen[1]") != "ADIT_LISTEN" || s.Origin("tunnel.path") != "--tunnel-path" {
		t.Error(s.Origin("listen[1]"), s.Origin("tunnel.path"))
	}
}

func TestServerFaults(t *testing.T) {
	const user = "\n[[user]]\nname = \"a\"\ntoken-hash = \"h\"\nallow = [\"1:1\"]\n"
	const tls = "\n[tls]\ncert = \"/c\"\nkey = \"/k\"\n"
	tests := []struct {
		name, file string
		args       []string
		says, hint string
	}{
		{"nothing", "", nil, "tls: no certificate", "--self-signed"},
		{"nobody", tls, nil, "user: nobody", "adit token"},
		{"syntax", "listen = [\n", nil, ":1: ", "TOML"},
		{"Windows path", "listen = [\":1\"]\n[tls]\ncert = \"C:\\Users\\a.pem\"", nil, `:3: \U in double quotes is not an escape sequence`, `'C:\adit\cert.pem'`},
		{"Windows path that is an escape", "[tls]\ncert = \"C:\\tls\\new.pem\"", nil, ":2: tls.cert: \"C:\\tls\\new.pem\" contains a control character", "single quotes"},
		{"Latin-1", "audit = \"/x\"\nusers = \"/\xe9\"", nil, ":2: the text is not UTF-8", "save the file as UTF-8"},
		{"UTF-16", "\xff\xfed\x00=\x00", nil, "it is UTF-16, not UTF-8", "iconv -f UTF-16"},
		{"twice", "drain-timeout=\"1s\"\ndrain-timeout=\"1s\"", nil, ":2: ", "TOML"},
		{"misspelt", "drain-timout = \"1s\"", nil, ":1: drain-timout: unknown key", "did you mean drain-timeout?"},
		{"misspelt in table", "[tls]\ncret = \"x\"", nil, ":2: tls.cret: unknown key", "did you mean cert?"},
		{"misspelt table", "[tsl]\ncert = \"x\"", nil, ":1: [tsl]: unknown table", "did you mean [tls]?"},
		{"misspelt user key", "[[user]]\nnmae = \"x\"", nil, ":2: user.nmae: unknown key", "did you mean name?"},
		{"wrong table", "cert = \"x\"", nil, ":1: cert: unknown key", "put it below [tls]"},
		{"wrong place", "[tls]\nlisten = [\":1\"]", nil, ":2: tls.listen: unknown key", "top of the file"},
		{"unrelated", "[tls]\nzzzzzzzz = 1", nil, ":2: tls.zzzzzzzz: unknown key", "the keys here are cert, key"},
		{"one bracket", "[user]\nname = \"x\"", nil, ":1: [user]: needs two brackets", "[[user]]"},
		{"two brackets", "[[tls]]\ncert = \"x\"", nil, ":1: [[tls]]", "write [tls]"},
		{"table as value", "user = 5", nil, ":1: user: is a table", "[[user]]"},
		{"admin for all", "[admin]\nlisten = \":1\"", nil, ":2: admin.listen: \":1\" is not a loopback address", "unix:/run/adit/admin.sock"},
		{"later user key", user + "listen = [\"127.0.0.1:1\"]", nil, ":6: user.listen: not supported by this version", "-L"},
		{"wrong type", "drain-timeout = 30", nil, ":1: drain-timeout: is the number 30", "\"30s\""},
		{"wrong type list", "listen = 5", nil, ":1: listen: is the number 5", "listen = ["},
		{"wrong type item", "listen = [\":1\",\n  5]", nil, ":2: listen: the number 5 in a list", "listen = ["},
		{"wrong type bool", "[tls]\noff = \"yes\"", nil, ":2: tls.off: is the text \"yes\"", "off = true"},
		{"wrong type number", "[tunnel]\nmax-streams = \"many\"", nil, ":2: tunnel.max-streams: is the text", "= 4096"},
		{"range", "[tunnel]\nmax-streams = 0", nil, ":2: tunnel.max-streams: 0 is out of range", "between 1"},
		{"overflow", "[tunnel]\nmax-streams = 99999999999999999999", nil, ":2:", ""},
		{"no unit", "drain-timeout = \"30\"", nil, `"30" has no unit`, "30s"},
		{"bad path", "[tunnel]\npath = \"tunnel\"", nil, ":2: tunnel.path:", "/tunnel"},
		{"unclean path", "[tunnel]\npath = \"/a/../b\"", nil, "shortest form", "\"/b\""},
		{"bad address in list", "listen = [\n\":1\",\n\"x\"]", nil, ":3: listen: \"x\" has no port", "HOST:PORT"},
		{"target name", "[[target]]\nname = \"a.b\"\naddress = \"h:1\"", nil, ":2: target.name:", "letter"},
		{"target word", "[[target]]\nname = \"socks\"\naddress = \"h:1\"", nil, ":2: target.name:", "letter"},
		{"target address", "[[target]]\nname = \"a\"\naddress = \"0.0.0.0:1\"", nil, ":3: target.address:", "127.0.0.1"},
		{"target without address", "[[target]]\nname = \"a\"", nil, ":1: [[target]]: target \"a\" has no address", "address ="},
		{"target twice", "[[target]]\nname = \"a\"\naddress = \"h:1\"\n[[target]]\nname = \"a\"\naddress = \"h:2\"", nil, ":5: target.name: target \"a\" is defined twice", "own name"},
		{"user without rights", "[[user]]\nname = \"a\"\ntoken-hash = \"h\"", nil, "may reach nothing", "allow ="},
		{"rule without target", "[[user]]\nname = \"a\"\ntoken-hash = \"h\"\nallow = [\"ssj\"]\n[[target]]\nname = \"ssh\"\naddress = \"h:1\"", nil, ":4: user.allow: there is no target named \"ssj\"", "did you mean ssh?"},
		{"anonymous without target", tls, []string{"--allow-anonymous=web"}, "--allow-anonymous: there is no target", "[[target]]"},
		{"cert-name without CA", "[[user]]\nname = \"a\"\ncert-name = \"x\"\nallow = [\"1:1\"]", nil, ":3: user.cert-name:", "--client-ca"},
		{"two certificates", tls + user, []string{"--self-signed", "/d"}, "two sources of the certificate", "choose one"},
		{"no key", user, []string{"--tls-cert", "/c"}, "--tls-cert: has no private key", "--tls-key"},
		{"no cert", user, []string{"--tls-key", "/k"}, "--tls-key: has no certificate", "--tls-cert"},
		{"plain without address", user, []string{"--no-tls"}, "--no-tls: plain HTTP has no default address", "--listen 127.0.0.1:8080"},
		{"bool flag", user, []string{"--no-tls=maybe"}, "--no-tls: \"maybe\"", "true or false"},
		{"plain with CA", user, []string{"--no-tls", "--listen=:1", "--client-ca=/x"}, "--client-ca: client certificates need TLS", ""},
		{"ACME without domain", tls + user, []string{"--acme-email=a@b.c"}, "--acme-email: has no effect", "--acme-domain"},
		{"bad domain", user, []string{"--acme-domain=a b"}, `--acme-domain: domain "a b"`, "gw.example.com"},
		{"bare domain", user, []string{"--acme-domain=host"}, "has no dot", "gw.example.com"},
		{"bad email", user, []string{"--acme-domain=a.b", "--acme-email=nobody"}, "not an e-mail", "admin@"},
		{"bad directory", user, []string{"--acme-domain=a.b", "--acme-directory=ftp://x"}, "not an https URL", "https://"},
		{"log level", tls + user, []string{"--log-level=loud"}, `--log-level: "loud"`, "debug, info"},
		{"log format", tls + user, []string{"--log-format=xml"}, `--log-format: "xml"`, "auto, text, json or journal"},
		{"argument", tls + user, []string{"wss://x"}, `argument "wss://x": unexpected`, "flags only"},
		{"tilde", user, []string{"--site=~/x"}, "does not expand ~", "/home/me/x"},
		{"site URL", user, []string{"--site=ftp://x"}, `--site: "ftp://x" is not an http or https URL`, "http://127.0.0.1:8080"},
		{"site query", user, []string{"--site=http://x/?a=b"}, "has a query", "http://127.0.0.1:8080"},
		{"site user", user, []string{"--site=http://a:hunter2@x"}, "http://xxxxx@x", "https://"},
		{"site socket", user, []string{"--site=unix:x"}, `--site: "unix:x": the path must begin`, "unix:/run"},
		{"site proxy", "[site]\nproxy = \"/var/www\"", nil, ":2: site.proxy: \"/var/www\" is not an http", "http://127.0.0.1:8080"},
		{"site root", "[site]\nroot = \"http://x\"", nil, ":2: site.root: ", "write proxy ="},
		{"two sites", "[site]\nroot = \"/x\"\nproxy = \"http://x\"", nil, ":3: site.proxy: site.root is set too", "one of the two"},
		{"demo page", tls + user, []string{"--demo-page=console"}, "--demo-page: path \"console\"", "/console"},
		{"demo page at the tunnel", tls + user, []string{"--demo-page=/tunnel"}, "the tunnel's own path", "/console"},
		{"trusted proxy", tls + user, []string{"--trusted-proxy=10.0.0.0/99"}, "--trusted-proxy: \"10.0.0.0/99\"", "10.0.0.0/8"},
		{"trusted everybody", "trusted-proxies = [\"10.0.0.0/8\",\n\"0.0.0.0/0\"]", nil, ":2: trusted-proxies: ", "192.0.2.7"},
		{"trusted host bits", "trusted-proxies = \"10.1.0.0/8\"", nil, "bits set", "did you mean 10.0.0.0/8?"},
		{"key outside of tables in a users file", tls, []string{"--users=" + write(t, "u.toml", "zzzz = 1")}, ":1: zzzz: unknown key", "[[target]], [[user]]"},
		{"missing users file", tls, []string{"--users=/nonexistent/u"}, "--users: open /nonexistent/u", "check the path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--config", write(t, "s.toml", tt.file)}, tt.args...)
			_, faults := LoadServer(sources(t, ServerFlags, args))
			expectFault(t, faults, tt.says, tt.hint)
		})
	}
}

func expectFault(t *testing.T, faults Faults, says, advice string) {
	t.Helper()
	for _, f := range faults {
		if hint.Of(f) == "" {
			t.Errorf("no hint: %v", f)
		}
	}
	for _, f := range faults {
		if strings.Contains(f.Error(), says) {
			if !strings.Contains(hint.Of(f), advice) {
				t.Errorf("hint %q does not say %q", hint.Of(f), advice)
			}
			return
		}
	}
	t.Errorf("no fault says %q:\n%v", says, faults)
}

func TestEveryFaultIsListed(t *testing.T) {
	path := write(t, "s.toml", "listen = [\"x\", \"y\"]\nbogus = 1\n[tls]\noff = 3\n[tunnel]\npath = \"z\"\n")
	_, faults := LoadServer(sources(t, ServerFlags, []string{"-c", path, "--log-level=loud"}, "ADIT_MAX_STREAMS=many"))
	for _, says := range []string{`"x"`, `"y"`, "bogus", "tls.off", "tunnel.path", "--log-level", "ADIT_MAX_STREAMS", "nobody"} {
		expectFault(t, faults, says, "")
	}
	if len(faults) != 8 {
		t.Errorf("%d faults:\n%v", len(faults), faults)
	}
}

func TestUsersFile(t *testing.T) {
	users := write(t, "u.toml", "[[user]]\nname = \"carol\"\ntoken-hash = \"h\"\nallow = [\"1:1\"]\n[[target]]\nname = \"x\"\naddress = \"h:1\"\n")
	args := []string{"-c", write(t, "s.toml", goodServer), "--users", users}
	s, faults := LoadServer(sources(t, ServerFlags, args))
	if len(faults) > 0 || len(s.Users) != 3 || s.Users[2].Name != "carol" || len(s.Targets) != 2 {
		t.Fatalf("%+v\n%v", s.Users, faults)
	}
	if got := s.Origin("user[2].token-hash"); got != users+":3: user.token-hash" {
		t.Error(got)
	}
	args[3] = write(t, "bad.toml", "listen = \":1\"\n")
	_, faults = LoadServer(sources(t, ServerFlags, args))
	expectFault(t, faults, "bad.toml:1: listen: unknown key", "")
}

func TestClient(t *testing.T) {
	path := write(t, "client.toml", `
server = ["wss://gw.example.com", "wss://[2001:db8::1]:8443/x"]
token-file = "/etc/adit/token"
forward = ["2222:ssh", "127.0.0.1:5432:db.lan:5432"]
proxy = "http://u:p@proxy.corp:3128"
header = ["X-A: b: c"]
exit-on-refusal = true
[tls]
pin = ["sha256:abc"]
`)
	c, faults := LoadClient(sources(t, ClientFlags, []string{"-c", path, "--link-wait=3s"}), true)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(c.Servers) != "[wss://gw.example.com/tunnel wss://[2001:db8::1]:8443/x]" || len(c.Forwards) != 2 ||
		c.LinkWait != 3*time.Second || !c.ExitOnRefusal || c.Headers[0] != (Header{"X-A", "b: c"}) || c.PingInterval != 20*time.Second {
		t.Errorf("%+v", c)
	}
	c, faults = LoadClient(sources(t, ClientFlags, []string{"-c", path, "-L", "1:h:2", "wss://other/t"}, "ADIT_TOKEN=s3cret"), true)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if len(c.Forwards) != 1 || fmt.Sprint(c.Servers) != "[wss://other/t]" || c.TokenFile != "" || string(c.Token) != "s3cret" {
		t.Errorf("%+v", c)
	}
	if s := fmt.Sprintf("%+v %#v", c, c); strings.Contains(s, "s3cret") {
		t.Error("the secret shows")
	}
	c, faults = LoadClient(sources(t, ClientFlags, []string{"-c", path, "-W", "db.lan:22"}), true)
	if faults.Err() != nil || len(c.Forwards) != 0 || c.Stdio.Address != "db.lan:22" {
		t.Errorf("%+v %v", c, faults)
	}
}

func TestClientFaults(t *testing.T) {
	const url = "wss://gw.example.com/tunnel"
	tests := []struct {
		name       string
		args       []string
		env        string
		says, hint string
	}{
		{"nothing", nil, "", "server: no server is named", "wss://gw.example.com/tunnel"},
		{"no work", []string{url}, "", "nothing to forward", "-L 5432"},
		{"no scheme", []string{"gw.example.com/tunnel"}, "", "has no scheme", "did you mean wss://gw.example.com/tunnel?"},
		{"host and port", []string{"gw:443"}, "", "has no scheme", "wss://gw:443"},
		{"https", []string{"https://gw/tunnel"}, "", "scheme https is not", "did you mean wss://gw/tunnel?"},
		{"other scheme", []string{"ftp://gw"}, "", `scheme "ftp"`, "wss://HOST"},
		{"password in URL", []string{"wss://u:hunter2@gw/t"}, "", "carries a user name or password", "--token-file"},
		{"query", []string{url + "?token=hunter2"}, "", `"wss://gw.example.com/tunnel?xxxxx" has a query`, "--token-file"},
		{"query without a scheme", []string{"gw.example.com/tunnel?token=hunter2"}, "", "has no scheme", "did you mean wss://gw.example.com/tunnel?"},
		{"fragment", []string{"https://gw.example.com/tunnel#hunter2"}, "", "scheme https", "did you mean wss://gw.example.com/tunnel?"},
		{"proxy with a password", []string{"--proxy", "http://u:hunter2@proxy:3128", url}, "", "would show a password to other users", "HTTPS_PROXY or ADIT_PROXY"},
		{"bare proxy with a password", []string{"--proxy", "u:hunter2@proxy:3128", url}, "", "would show a password to other users", "configuration file"},
		{"forward with a password", []string{"-L", "socks5://1080?login=a&password=hunter2", url}, "", "xxxxx", "-L"},
		{"connect-to with a query", []string{"--connect-to", "wss://h?token=hunter2", url}, "", "is a URL", "HOST:PORT"},
		{"header without a colon", []string{"--header", "X-Api-Key hunter2", url}, "", `header "X-Api-Key …" has no colon`, "X-Team"},
		{"no host", []string{"wss:///t"}, "", "no host", "wss://HOST"},
		{"bad port", []string{"wss://h:99999/t"}, "", "99999", "wss://HOST"},
		{"bad escape", []string{"wss://h/%zz"}, "", "invalid URL escape", "wss://HOST"},
		{"bad forward", []string{"-L", "x", url}, "", `--forward: forward "x"`, "-L 2222:x"},
		{"forward env", []string{url}, "ADIT_FORWARD=1:h:2 y", `ADIT_FORWARD: forward "y"`, "-L"},
		{"same port", []string{"-L", "1:h:2", "-L", "127.0.0.1:1:h:3", url}, "", "listens on the same address", "own port"},
		{"same port on ::1", []string{"-L", "1:h:2", "-L", "[::1]:1:h:3", url}, "", "listens on the same address", "own port"},
		{"reverse", []string{"-R", "1:h:2", url}, "", "-R: not supported by this version", "-L there"},
		{"dynamic", []string{"-D", "1080", url}, "", "-D: not supported by this version", "-L 5432"},
		{"both", []string{"-L", "1:h:2", "-W", "h:22", url}, "", "exclude each other", "one at a time"},
		{"bad stdio", []string{"-W", "h", "--token-file", "", url}, "", "--token-file: is empty", ""},
		{"bad stdio target", []string{"-W", "h:0", url}, "", "--stdio: port 0", "-W db.lan:22"},
		{"proxy scheme", []string{"--proxy", "ftp://p:1", url}, "", `proxy "ftp://p:1": the scheme is not one of http, https, socks5, socks5h`, "socks5://"},
		{"proxy bare", []string{"--proxy", "proxy:http", url}, "", `"proxy:…" is not a URL`, "http://HOST:PORT"},
		{"proxy path", []string{"--proxy", "http://p:1/x", url}, "", `"http://p:1/x" has a path`, "http://HOST:PORT"},
		{"proxy password hidden", []string{"--proxy", "http://u:hunter2@/", url}, "", "proxy", "http://"},
		{"connect-to", []string{"--connect-to", "h", url}, "", `"h" has no port`, "HOST:PORT"},
		{"connect-to a relative socket", []string{"--connect-to", "unix:./x.sock", url}, "", "not an absolute path", "unix:/run/front.sock"},
		{"connect-to a socket by a proxy", []string{"--connect-to", "unix:/x.sock", "--proxy", "http://p:1", url}, "", "no proxy leads to a unix socket, and --proxy names one", "leave out"},
		{"host", []string{"--host", "a b", url}, "", `host "a b"`, ""},
		{"server name", []string{"--server-name", "a_b c", url}, "", "host", ""},
		{"header", []string{"--header", "nocolon", url}, "", "no colon", "X-Team"},
		{"header name", []string{"--header", "a b: c", url}, "", `header name "a b"`, "X-Team"},
		{"header value", []string{"--header", "a: c\r\nd: e", url}, "", "control character", "X-Team"},
		{"header secret", []string{"--header", "Authorization: Bearer hunter2", url}, "", "would show a secret", "--token-file"},
		{"header host", []string{"--header", "host: x", url}, "", "own flag", "--host"},
		{"header upgrade", []string{"--header", "Sec-WebSocket-Key: x", url}, "", "handshake", "X-Team"},
		{"ping", []string{"--ping-interval", "1ms", url}, "", "out of range", "1s and 1h"},
		{"link wait", []string{"--link-wait", "soon", url}, "", "not a duration", "30s"},
		{"user without password", []string{"--user", "a", url}, "", `user "a" has no password`, "--token-file"},
		{"user colon", []string{"--user", "a:hunter2", url}, "", "colon", "token file"},
		{"cert without key", []string{"--cert", "/c", url}, "", "no private key", "--key"},
		{"key without cert", []string{"--key", "/c", url}, "", "no certificate", "--cert"},
		{"insecure and pin", []string{"--insecure-skip-verify", "--pin", "sha256:x", url}, "", "contradicts", "leave it out"},
		{"pin on ws", []string{"--pin", "sha256:x", "ws://h/t"}, "", "not encrypted", "wss://"},
		{"two tokens", []string{url}, "ADIT_TOKEN=a|ADIT_TOKEN_FILE=/x", "ADIT_TOKEN_FILE is set too", "unset"},
		{"bad token", []string{url}, "ADIT_TOKEN=hunter2\x01", "ADIT_TOKEN: the value is not usable", "adit token"},
		{"no config", []string{"-c", "/nonexistent/c.toml", url}, "", "--config: open /nonexistent/c.toml", "check the path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, faults := LoadClient(sources(t, ClientFlags, tt.args, strings.Split(tt.env, "|")...), true)
			expectFault(t, faults, tt.says, tt.hint)
			if strings.Contains(faults.Error(), "hunter2") {
				t.Errorf("a secret shows: %v", faults)
			}
		})
	}
}

// Faults of a URL do not show its password, also not one that is not escaped and that the parser
// takes for a host, a port or a path.
func TestPasswordInURLHidden(t *testing.T) {
	for _, rest := range []string{
		"alice:hunter2@gw:99999/t", "alice:hunter2/x@gw", "alice:hunter2?x@gw", "alice:hunter2#x@gw/",
		"al@ice:hunter2/x@gw", "alice:x/hunter2@gw", "alice:x@hunter2/x@gw", "alice:hunter2 x@gw", "alice:hunter2%zz@gw", "hunter2:@gw",
		"alice:99999/hunter2@gw", "alice:[hunter2@gw",
	} {
		for name, parse := range map[string]func(string) (string, error){
			"server": ServerURL, "proxy": ProxyURL, "site": siteURL, "directory": directoryURL, "origin": ParseOrigin,
		} {
			for _, scheme := range []string{"", "wss://", "http://", "https://", "ftp://"} {
				if _, err := parse(scheme + rest); err != nil && strings.Contains(err.Error()+hint.Of(err), "hunter2") {
					t.Errorf("%s %s: %v (%s)", name, scheme+rest, err, hint.Of(err))
				}
			}
		}
	}
}

// During a rotation a user has several hashes.
func TestSeveralTokenHashes(t *testing.T) {
	path := write(t, "server.toml", goodServer+"\n[[user]]\nname = \"r\"\nallow = [\"*:*\"]\ntoken-hash = [\"sha256:01\",\n\"sha256:02\"]\n")
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", path}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if u := s.Users[len(s.Users)-1]; u.Name != "r" || fmt.Sprint(u.TokenHashes) != "[sha256:01 sha256:02]" {
		t.Errorf("%+v", u)
	}
}

// A file that begins with a byte order mark and has CRLF is like any other.
func TestConfigurationWithByteOrderMark(t *testing.T) {
	path := write(t, "server.toml", "\ufeff"+strings.ReplaceAll(goodServer, "\n", "\r\n"))
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", path}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if len(s.Users) == 0 {
		t.Errorf("%+v", s)
	}
}

func TestReadSecret(t *testing.T) {
	for content, want := range map[string]string{
		"\ufeffadit_abc\r\n": "adit_abc",
		"\ufefftoken = \"adit_abc\"\r\ntoken-hash = \"x\"\r\n": "adit_abc",
		"a\x00b\x00\r\x00\n\x00":                               "",
		"adit_abc\n":                                           "adit_abc",
		"token = \"adit_abc\"\ntoken-hash = \"sha256:00\"\n":   "adit_abc",
		"a=b c\n":    "a=b c",
		"\n":         "",
		"one\ntwo\n": "",
	} {
		got, err := ReadSecret(write(t, "token", content))
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, string(got), err)
		}
		if err != nil && hint.Of(err) == "" {
			t.Errorf("%q: no hint", content)
		}
	}
}

func FuzzLoadServer(f *testing.F) {
	f.Add(goodServer)
	f.Add("user = [{name=1}, 5]\ntls = 3\n[user.x]\na.b.c = [[1]]\n")
	f.Fuzz(func(t *testing.T, content string) {
		l := newLoader()
		s := &Server{}
		l.readTOML("f", []byte(content), s.schema())
		s.check(l)
		for _, x := range l.faults {
			if hint.Of(x) == "" {
				t.Fatalf("no hint: %v", x)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	keys := []string{"listen", "cert", "key", "self-signed", "drain-timeout"}
	for in, want := range map[string]string{"lisen": "listen", "crt": "cert", "yek": "", "selfsigned": "self-signed", "drian-timeout": "drain-timeout", "x": "", "certificate": ""} {
		if got := Nearest(in, keys); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// Sizes have units in the file, in variables and as flags; a number alone is in MiB.
func TestSizesHaveUnits(t *testing.T) {
	for text, want := range map[string]int{
		"256": 256, "512MiB": 512, "1GiB": 1024, "1.5 GiB": 1536, "2G": 2048, "1GB": 954, "1048576B": 1, "1KiB": 1, "64m": 64,
		"": 0, "MiB": 0, "0": 0, "-1MiB": 0, "1e3": 0, "1XiB": 0, "2TiB": 0, "NaN": 0, "1..5GiB": 0,
	} {
		got, err := ParseMebibytes(text, 1, 1<<20)
		if got != want || (err == nil) != (want != 0) || err != nil && hint.Of(err) == "" {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, line := range []string{"resume-memory = 512", `resume-memory = "512MiB"`, `resume-memory = "0.5GiB"`} {
		path := write(t, "server.toml", strings.Replace(goodServer, "max-streams = 1_000", line, 1))
		s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", path}))
		if err := faults.Err(); err != nil || s.ResumeMemory != 512 {
			t.Errorf("%s: %d, %v", line, s.ResumeMemory, err)
		}
	}
}

func TestDefaultFiles(t *testing.T) {
	dir := t.TempDir()
	environment := map[string]string{"XDG_CONFIG_HOME": dir}
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	own := filepath.Join(dir, "adit", "server.toml")
	if got := DefaultFiles("server", lookup); !slices.Equal(got, []string{own, "/etc/adit/server.toml"}) {
		t.Errorf("%q", got)
	}
	system := write(t, "server.toml", goodServer)
	load := func() (*Server, Faults) {
		return LoadServer(Sources{DefaultFiles: []string{own, system}})
	}
	if s, faults := load(); s.File != system || len(faults) > 0 {
		t.Errorf("%q, %v", s.File, faults)
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte(strings.Replace(goodServer, "path = \"/t\"", "path = \"/own\"", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, faults := load(); s.File != own || s.TunnelPath != "/own" || len(faults) > 0 {
		t.Errorf("%q, %v", s.File, faults)
	}
	if s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", system})); s.File != system || len(faults) > 0 {
		t.Errorf("%q, %v", s.File, faults)
	}
	// A file that may not be read has what is missing.
	notDirectory := filepath.Join(own, "server.toml")
	_, faults := LoadServer(Sources{DefaultFiles: []string{notDirectory}})
	expectFault(t, faults, "default configuration file: open "+notDirectory, "--config")
}

// The token in a default file goes to the servers of that file only.
func TestDefaultFileKeepsItsToken(t *testing.T) {
	file := write(t, "client.toml", "server = [\"wss://gw.example.com\"]\ntoken-file = \"/t\"\nforward = [\"1:h:2\"]\n")
	load := func(args ...string) Faults {
		src := sources(t, ClientFlags, args)
		src.DefaultFiles = []string{file}
		_, faults := LoadClient(src, true)
		return faults
	}
	expectFault(t, load("wss://other.example.com"), "client.toml:2: token-file: is for the servers of that file, not for wss://other.example.com", "--config")
	for _, args := range [][]string{nil, {"wss://GW.example.com:8443/t"}, {"--token-file", "/mine", "wss://other.example.com"}, {"--config", file, "wss://other.example.com"}} {
		if faults := load(args...); len(faults) > 0 {
			t.Errorf("%q: %v", args, faults)
		}
	}
}
