package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"adit/auth"
	"adit/certs"
	"adit/internal/testnet"
)

// reloader is a server whose configuration the test changes.
type reloader struct {
	*process
	file, dir, addr string
	reloads         int
}

// base returns its configuration, values by key. write adds users and routes.
func (r *reloader) base() map[string]string {
	return map[string]string{
		"listen":   `["127.0.0.1:0"]`,
		"tls.cert": fmt.Sprintf("%q", filepath.Join(r.dir, "a", "cert.pem")),
		"tls.key":  fmt.Sprintf("%q", filepath.Join(r.dir, "a", "key.pem")),
	}
}

var tables = map[string]string{
	"user":   "name = \"alice\"\ntoken-hash = \"" + auth.HashToken("x") + "\"\nallow = [\"127.0.0.1:1\"]\n",
	"target": "name = \"ssh\"\naddress = \"127.0.0.1:22\"\n",
	"route":  "path = \"/json\"\nbackend = [\"127.0.0.1:9\"]\n",
}

func (r *reloader) write(settings map[string]string, element, line string) {
	var top, inTables strings.Builder
	for key, value := range settings {
		fmt.Fprintf(&top, "%s = %s\n", key, value)
	}
	for name, content := range tables {
		if name == element {
			own, _, _ := strings.Cut(line, " = ")
			content = regexp.MustCompile(`(?m)^`+own+` = .*\n`).ReplaceAllString(content, "") + line + "\n"
		}
		fmt.Fprintf(&inTables, "[[%s]]\n%s", name, content)
	}
	if err := os.WriteFile(r.file, []byte(top.String()+inTables.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload sends SIGHUP and returns what the server logs until the reload is over.
func (r *reloader) reload() string {
	r.t.Helper()
	before := len(r.log())
	r.signal(syscall.SIGHUP)
	r.reloads++
	r.waitTimes(`msg=reloaded|reload failed`, r.reloads)
	return strings.Join(r.log()[before:], "\n")
}

func (r *reloader) tls() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// served returns the serial number of the certificate, and whether the server asks for a client
// certificate.
func (r *reloader) served() (serial string, asks bool) {
	r.t.Helper()
	c := r.tls()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asks = true
		return &tls.Certificate{}, nil
	}
	conn, err := tls.Dial("tcp", r.addr, c)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), asks
}

func (r *reloader) get(path string, headers ...string) string {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://"+r.addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	tr := &http.Transport{TLSClientConfig: r.tls(), DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

var upgradeHeaders = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// A reload puts every key of the configuration into force, or logs that the setting requires a
// restart.
func TestReloadEveryKey(t *testing.T) {
	dir := t.TempDir()
	r := &reloader{dir: dir, file: filepath.Join(dir, "server.toml")}
	for _, d := range []string{"a", "b", "self"} {
		if _, _, err := certs.SelfSigned(filepath.Join(dir, d), []string{"localhost"}); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%q", path)
	}
	site := testnet.Reply(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nproxy")
	r.process = &process{t: t}
	r.write(r.base(), "", "")
	r.process = start(t, adit(t, "server", "--config", r.file))
	r.addr = r.wait(`msg=listening addr=(\S+)`)[1]
	serial, _ := r.served()

	const restart, refused = "restart", "refused"
	cert, key := fmt.Sprintf("%q", filepath.Join(dir, "b", "cert.pem")), fmt.Sprintf("%q", filepath.Join(dir, "b", "key.pem"))
	newCertificate := func() error {
		if now, _ := r.served(); now == serial {
			return fmt.Errorf("the old certificate is served")
		}
		return nil
	}
	shows := func(path, text string, headers ...string) func() error {
		return func() error {
			if body := r.get(path, headers...); !strings.Contains(body, text) {
				return fmt.Errorf("%s shows %q", path, body)
			}
			return nil
		}
	}
	logs := func(pattern string, headers ...string) func() error {
		return func() error {
			r.get("/tunnel", append(slices.Clone(upgradeHeaders), headers...)...)
			r.wait(pattern)
			return nil
		}
	}
	notLookedAt := referenceKeys(t)
	none := map[string]string(nil)
	acme := map[string]string{"tls.cert": "", "tls.key": "", "tls.acme-domains": `["gw.example.com"]`,
		"tls.acme-directory": `"https://127.0.0.1:1/"`, "tls.acme-cache": fmt.Sprintf("%q", filepath.Join(dir, "acme"))}
	with := func(base map[string]string, key, value string) map[string]string {
		m := map[string]string{key: value}
		for k, v := range base {
			if k != key {
				m[k] = v
			}
		}
		return m
	}
	type change struct {
		key   string
		want  string            // "": in force
		set   map[string]string // "" removes a key
		line  string            // or a line in the element of its table
		check func() error      // whether it is in force
	}
	changes := []change{
		{key: "listen", want: restart, set: with(none, "listen", `["127.0.0.1:0", "127.0.0.1:0"]`)},
		{key: "listen-mode", want: restart, set: with(none, "listen-mode", `"0600"`)},
		{key: "listen-group", want: restart, set: with(none, "listen-group", `"0"`)},
		{key: "drain-delay", set: with(none, "drain-delay", `"1ms"`)},
		{key: "drain-timeout", set: with(none, "drain-timeout", `"7s"`)}, // checked below
		{key: "users", set: with(none, "users", file("users.toml", "[[user]]\nname = \"bob\"\ntoken-hash = \""+auth.HashToken("bob")+"\"\nallow = [\"127.0.0.1:1\"]\n")),
			check: logs(`session refused.*user=bob|route refused.*user=bob|session opened.*user=bob`, "Authorization: Bearer bob")},
		{key: "allow-anonymous", set: with(none, "allow-anonymous", `["127.0.0.1:1"]`), check: func() error { r.wait(`target is open to everyone`); return nil }},
		{key: "trusted-proxies", set: with(none, "trusted-proxies", `["127.0.0.1"]`),
			check: logs(`authentication failed" addr=198\.51\.100\.7 `, "X-Forwarded-For: 198.51.100.7", "Authorization: Bearer wrong")},
		{key: "demo-page", set: with(none, "demo-page", `"/console"`), check: shows("/console/", "/json")},
		{key: "log-level", set: with(none, "log-level", `"debug"`), check: logs(`level=DEBUG msg="no credentials"`)},
		{key: "log-format", want: restart, set: with(none, "log-format", `"json"`)},
		{key: "audit", set: with(none, "audit", fmt.Sprintf("%q", filepath.Join(dir, "audit.jsonl"))), check: func() error {
			_, err := os.Stat(filepath.Join(dir, "audit.jsonl"))
			return err
		}},
		{key: "tls.cert", set: with(with(none, "tls.cert", cert), "tls.key", key), check: newCertificate},
		{key: "tls.key", set: with(with(none, "tls.cert", cert), "tls.key", key), check: newCertificate},
		{key: "tls.self-signed", set: with(map[string]string{"tls.cert": "", "tls.key": ""}, "tls.self-signed", fmt.Sprintf("%q", filepath.Join(dir, "self"))), check: newCertificate},
		{key: "tls.acme-domains", set: acme},
		{key: "tls.acme-email", set: with(acme, "tls.acme-email", `"admin@example.com"`)},
		{key: "tls.acme-directory", set: acme},
		{key: "tls.acme-ca", set: with(acme, "tls.acme-ca", cert)},
		{key: "tls.acme-cache", set: acme},
		{key: "tls.off", want: refused, set: with(map[string]string{"tls.cert": "", "tls.key": ""}, "tls.off", "true")},
		{key: "tls.client-ca", set: with(none, "tls.client-ca", cert), check: func() error {
			if _, asks := r.served(); !asks {
				return fmt.Errorf("no client certificate is asked for")
			}
			return nil
		}},
		{key: "tunnel.path", want: restart, set: with(none, "tunnel.path", `"/other"`)},
		{key: "tunnel.max-streams", set: with(none, "tunnel.max-streams", "7")}, // TestMaxStreams of package server
		{key: "tunnel.resume-timeout", want: restart, set: with(none, "tunnel.resume-timeout", `"10m"`)},
		{key: "tunnel.resume-memory", want: restart, set: with(none, "tunnel.resume-memory", "512")},
		{key: "tunnel.stream-memory", want: restart, set: with(none, "tunnel.stream-memory", `"8GiB"`)},
		{key: "tunnel.user-stream-memory", want: restart, set: with(none, "tunnel.user-stream-memory", `"256MiB"`)},
		{key: "tunnel.max-connection-age", want: restart, set: with(none, "tunnel.max-connection-age", `"55m"`)},
		{key: "site.root", set: with(none, "site.root", fmt.Sprintf("%q", filepath.Dir(strings.Trim(file("www/index.html", "a directory"), `"`)))), check: shows("/", "a directory")},
		{key: "site.proxy", set: with(none, "site.proxy", fmt.Sprintf("%q", "http://"+site)), check: shows("/", "proxy")},
		{key: "admin.listen", want: restart, set: with(none, "admin.listen", `"127.0.0.1:0"`)},
		{key: "metrics.listen", want: restart, set: with(none, "metrics.listen", `"127.0.0.1:0"`)},
		{key: "admin.pprof", want: restart, set: with(none, "admin.pprof", "true")},
		// A reload replaces the elements of tables as a whole. Keys of [[route]] that are not here are
		// tried with the example of the reference.
		{key: "user.name", line: `name = "carol"`, check: logs(`msg="(session|route) refused.*user=carol|session opened.*user=carol`, "Authorization: Bearer x")},
		{key: "user.token-hash", line: `token-hash = "` + auth.HashToken("y") + `"`, check: logs(`authentication failed.*unknown token`, "Authorization: Bearer x")},
		{key: "user.cert-name", set: with(none, "tls.client-ca", cert), line: `cert-name = "alice"`},
		{key: "user.allow", line: `allow = ["127.0.0.1:2"]`},
		{key: "user.max-sessions", line: `max-sessions = 1`},
		{key: "target.name", line: `name = "other"`},
		{key: "target.address", line: `address = "127.0.0.1:23"`},
		{key: "route.path", line: `path = "/text"`, check: logs(`routes are open to everyone.*/text=`)},
		{key: "route.host", line: `host = "app.example.com"`, check: logs(`routes are open to everyone.*app\.example\.com/json=`)},
		{key: "route.backend", line: `backend = ["127.0.0.1:10"]`, check: logs(`routes are open to everyone.*=127\.0\.0\.1:10"`)},
	}
	for _, c := range changes {
		delete(notLookedAt, c.key)
	}
	for key, example := range notLookedAt {
		name, isRoute := strings.CutPrefix(key, "route.")
		if !isRoute {
			t.Errorf("there is no case for %s", key)
			continue
		}
		changes = append(changes, change{key: key, line: name + " = " + example})
	}
	for _, change := range changes {
		t.Run(change.key, func(t *testing.T) {
			settings := r.base()
			for k, v := range change.set {
				settings[k] = v
				if v == "" {
					delete(settings, k)
				}
			}
			table, _, _ := strings.Cut(change.key, ".")
			r.write(settings, table, change.line)
			said := r.reload()
			named := strings.Contains(said, `msg="setting requires a restart" key=`+change.key)
			isRefused := strings.Contains(said, "reload failed")
			switch {
			case named != (change.want == restart) || isRefused != (change.want == refused):
				t.Errorf("want %q, the server logs:\n%s", change.want, said)
			case isRefused && !strings.Contains(said, "restart the server"):
				t.Errorf("no hint:\n%s", said)
			case change.want == "" && change.check != nil:
				if err := change.check(); err != nil {
					t.Error(err)
				}
			}
			// And back: nothing differs from the start any more.
			r.write(r.base(), "", "")
			if said := r.reload(); strings.Contains(said, "requires a restart") || strings.Contains(said, "reload failed") {
				t.Errorf("back again:\n%s", said)
			}
		})
	}

	settings := r.base()
	settings["drain-timeout"] = `"7s"`
	r.write(settings, "", "")
	r.reload()
	r.signal(syscall.SIGTERM)
	r.wait(`msg=stopping reason="signal: terminated" drain=7s`)
	r.ends(0)
}

// A reload that changes settings of ACME, but not the certificate, does not migrate clients. One that
// brings another certificate migrates them once.
func TestReloadACMEMigration(t *testing.T) {
	const domain = "gw.example.com"
	dir := t.TempDir()
	cache := filepath.Join(dir, "acme")
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	obtained := func() {
		pair, err := certs.Ephemeral([]string{domain})
		if err != nil {
			t.Fatal(err)
		}
		var pems []byte
		certFile, keyFile := testnet.WriteCert(t, pair)
		for _, name := range []string{keyFile, certFile} {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pems = append(pems, data...)
		}
		if err := os.WriteFile(filepath.Join(cache, domain), pems, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &reloader{dir: dir, file: filepath.Join(dir, "server.toml")}
	config := func(email string) {
		r.write(map[string]string{"listen": `["127.0.0.1:0"]`, "tls.acme-domains": `["` + domain + `"]`,
			"tls.acme-directory": `"https://127.0.0.1:1/"`, "tls.acme-cache": fmt.Sprintf("%q", cache), "tls.acme-email": `"` + email + `"`}, "", "")
	}
	obtained()
	config("a@example.com")
	r.process = start(t, adit(t, "server", "--config", r.file))
	r.addr = r.wait(`msg=listening addr=(\S+)`)[1]
	r.waitTimes(`msg="certificate obtained"`, 1)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, adit(t, "client", "--proxy", "none", "--token-file", token, "--insecure-skip-verify", "--server-name", domain,
		"-L", "127.0.0.1:0:127.0.0.1:1", "wss://"+r.addr+"/tunnel"))
	r.wait(`msg="session opened"`)

	config("b@example.com")
	r.reload()
	r.waitTimes(`msg="certificate obtained"`, 2)
	obtained()
	config("c@example.com")
	r.reload()
	r.waitTimes(`msg="certificate obtained"`, 3)
	config("d@example.com")
	r.reload() // waits for the migration that the previous source has started
	asked := 0
	for _, line := range r.log() {
		if strings.Contains(line, "migrating clients") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("clients were migrated %d times for one new certificate", asked)
	}
}

// referenceKeys are the keys of the reference, with their examples. A test of internal/config keeps
// the reference whole.
func referenceKeys(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "server.toml"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	table := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if m := regexp.MustCompile(`^#\[+([a-z]+)\]+$`).FindStringSubmatch(line); m != nil {
			table = m[1] + "."
		} else if m := regexp.MustCompile(`^#([a-z][a-z-]*) = (.*)$`).FindStringSubmatch(line); m != nil {
			keys[table+m[1]] = m[2]
		}
	}
	return keys
}
