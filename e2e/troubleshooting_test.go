//go:build linux

package e2e

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"adit/internal/testnet"
)

const troubleshooting = "../docs/troubleshooting.md"

// checkBlock matches an adit check in docs/troubleshooting.md: the command and its output.
var checkBlock = regexp.MustCompile("(?ms)^```console\n\\$ (adit check .*?)\n(.*?)^```$")

// The commands in docs/troubleshooting.md print what the document shows. Each runs as it is
// written, in a network that has the problem. ADIT_UPDATE=1 updates the document.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	h, dir := troubledNetwork(t)
	text := readFile(t, troubleshooting)
	commands := 0
	updated := checkBlock.ReplaceAllStringFunc(text, func(block string) string {
		commands++
		m := checkBlock.FindStringSubmatch(block)
		command, want := m[1], m[2]
		out, _ := h.try(t, patience, "", "sh", "-c", "cd "+dir+" && PATH="+dir+":$PATH && export NO_PROXY= && "+command+" 2>&1")
		if got := timeless(out); got != timeless(want) {
			t.Errorf("%s: the document shows\n%s\nand adit says\n%s", command, timeless(want), got)
		}
		return "```console\n$ " + command + "\n" + regexp.MustCompile(`sha256:[A-Za-z0-9+/]{43}=`).ReplaceAllString(out, "sha256:…") + "```"
	})
	if commands < 10 {
		t.Errorf("the document has %d commands", commands)
	}
	if os.Getenv("ADIT_UPDATE") != "" {
		if err := os.WriteFile(troubleshooting, []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// timeless removes what differs in each run from the output of adit check: the duration of each
// hop, the key, and the client's port.
func timeless(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if r := []rune(strings.TrimRight(line, "\n")); len(r) > 26 && strings.ContainsRune("✓✗- ", r[0]) {
			line = string(r[:16]) + string(r[27:])
		}
		line = regexp.MustCompile(`sha256:([A-Za-z0-9+/]{43}=|…)`).ReplaceAllString(line, "sha256:…")
		line = regexp.MustCompile(`:\d+ to `).ReplaceAllString(line, ":PORT to ")
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n")
}

// troubledNetwork returns a host on which gw.example.com is a working server and other names have
// various problems, and a working directory with a token, an old token, and the server's CA.
func troubledNetwork(t *testing.T) (h *host, dir string) {
	t.Helper()
	need(t, "nft", "dnsmasq")
	h = isolated(t, "client")
	for name, addr := range map[string]string{
		"gw.example.com": "192.0.2.10", "filtered.example.com": "192.0.2.11", "site.example.com": "192.0.2.12", "proxy.corp": "192.0.2.13",
	} {
		h.ip(t, "addr add "+addr+"/32 dev lo")
		h.addName(t, name, addr)
	}
	writeFile(t, h.etc, "resolv.conf", "nameserver 127.0.0.1\n")
	h.start(t, "dnsmasq", spec{argv: []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--local=/com/", "--local=/lan/", "--user=root",
		"--pid-file=", "--listen-address=127.0.0.1", "--bind-interfaces"}}).awaitPort(t, h, "127.0.0.1:53")
	h.run(t, `table inet firewall {
	chain input { type filter hook input priority 0; ip daddr 192.0.2.11 drop; }
}`, "nft", "-f", "-")

	dir = workDir(t)
	if err := os.Symlink(aditBin, filepath.Join(dir, "adit")); err != nil {
		t.Fatal(err)
	}
	ca := testnet.NewCA(t, "Example Corp CA")
	cert, key := testnet.WriteCert(t, ca.Issue(t, testnet.Leaf{Names: []string{"gw.example.com"}}))
	alice := newAccount(t, h, "alice")
	writeFile(t, dir, "ca.pem", readFile(t, ca.WritePEM(t)))
	writeFile(t, dir, "token", readFile(t, alice.tokenFile))
	writeFile(t, dir, "old-token", "adit_"+strings.Repeat("A", 43)+"\n")
	for _, file := range []string{"token", "old-token"} {
		if err := os.Chmod(filepath.Join(dir, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ssh := h.listen(t, "127.0.0.1:22")
	serve(t, ssh, func(net.Conn) {})
	h.server(t, "--config", writeFile(t, workDir(t), "server.toml", `listen = ["192.0.2.10:443"]
[tls]
cert = "`+cert+`"
key = "`+key+`"
`+alice.users("ssh", "db", "*.lan:*")+`[[target]]
name = "ssh"
address = "127.0.0.1:22"
[[target]]
name = "db"
address = "127.0.0.1:5432"
`))
	answer := func(addr, text string) {
		serve(t, h.listen(t, addr), func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				conn.Write([]byte(text))
			}
		})
	}
	answer("192.0.2.12:80", "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 5\r\n\r\nhello")
	answer("192.0.2.12:81", "HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n")
	answer("192.0.2.13:3128", "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"corp\"\r\nContent-Length: 0\r\n\r\n")
	answer("192.0.2.13:3129", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	return h, dir
}
