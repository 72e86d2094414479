//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// comparedLighttpd is the version that the table in docs/gateway.md describes.
const comparedLighttpd = "1.4.69"

// The same script runs against lighttpd's mod_wstunnel and against adit, with the same backends at
// the same paths. The results differ exactly where docs/gateway.md says so.
func TestDifferencesToModWstunnel(t *testing.T) {
	need(t, "lighttpd")
	h := machine(t)
	arrived := make(chan string, 1)
	paths := wstunnelBackends(t, h, arrived)
	theirs, ours := lighttpdRoutes(t, h, paths), aditRoutes(t, h, paths)
	version, err := exec.Command(program(t, "lighttpd"), "-v").Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := strings.HasPrefix(string(version), "lighttpd/"+comparedLighttpd+" ")
	if !compared {
		t.Logf("this lighttpd is not %s, only adit is checked: %s", comparedLighttpd, version)
	}
	documented := documentedDifferences(t)
	seen := map[string]bool{}
	for _, step := range wstunnelScript {
		seen[step.does] = true
		adit, lighttpd := step.run(ours, arrived), step.run(theirs, arrived)
		row, listed := documented[step.does]
		switch {
		case listed && adit != row.adit:
			t.Errorf("%s: adit gives %q, docs/gateway.md says %q", step.does, adit, row.adit)
		case listed && compared && lighttpd != row.theirs:
			t.Errorf("%s: lighttpd gives %q, docs/gateway.md says %q", step.does, lighttpd, row.theirs)
		case !listed && step.same != "" && adit != step.same:
			t.Errorf("%s: adit gives %q, want %q", step.does, adit, step.same)
		case !listed && (step.same == "" || compared && lighttpd != adit):
			t.Errorf("docs/gateway.md lacks the row\n| %s | `%s` | `%s` | why |", step.does, lighttpd, adit)
		case listed && row.theirs == row.adit:
			t.Errorf("%s: docs/gateway.md lists a difference that does not exist", step.does)
		}
	}
	for does := range documented {
		if !seen[does] {
			t.Errorf("docs/gateway.md lists %q, which no step of the script does", does)
		}
	}
}

// difference is a row of the table.
type difference struct{ theirs, adit string }

// documentedDifferences reads the rows of docs/gateway.md whose second and third cell are code.
func documentedDifferences(t *testing.T) map[string]difference {
	t.Helper()
	text, err := os.ReadFile("../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| the client does | mod_wstunnel | adit | why |\n")
	if !ok {
		t.Fatal("docs/gateway.md has no table of differences")
	}
	rows := map[string]difference{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 {
			if strings.HasPrefix(line, "|--") {
				continue
			}
			break
		}
		if strings.TrimSpace(cells[3]) == "" {
			t.Errorf("a difference without a reason: %s", line)
		}
		rows[strings.TrimSpace(cells[0])] = difference{strings.Trim(cells[1], " `"), strings.Trim(cells[2], " `")}
	}
	return rows
}

// wstunnelBackends starts the backends of the script and returns their addresses by path.
func wstunnelBackends(t *testing.T, h *host, arrived chan<- string) map[string]string {
	t.Helper()
	paths := map[string]string{}
	backend := func(path string, handle func(net.Conn)) {
		l := h.listen(t, "127.0.0.1:0")
		serve(t, l, func(conn net.Conn) {
			conn.SetDeadline(time.Now().Add(patience))
			handle(conn)
		})
		paths[path] = l.Addr().String()
	}
	echo := func(conn net.Conn) { io.Copy(conn, conn) }
	backend("/echo", echo)
	backend("/plain", echo)
	backend("/listed", echo)
	backend("/greet", func(conn net.Conn) { io.WriteString(conn, "hi"); io.Copy(io.Discard, conn) })
	backend("/bye", func(conn net.Conn) { io.WriteString(conn, "bye") })
	backend("/reset", func(conn net.Conn) {
		conn.Read(make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
	})
	backend("/sink", func(conn net.Conn) {
		b, err := io.ReadAll(conn)
		if err != nil {
			b = append(b, " and a reset"...)
		}
		select {
		case arrived <- string(b):
		default:
		}
	})
	dead := h.listen(t, "127.0.0.1:0")
	dead.Close()
	paths["/dead"] = dead.Addr().String()
	return paths
}

const listedOrigin = "https://app.example.com"

// frameType returns the frame type that is configured for a path, "" for the default.
func frameType(path string) string {
	if path == "/plain" {
		return ""
	}
	return "binary"
}

func lighttpdRoutes(t *testing.T, h *host, paths map[string]string) (addr string) {
	t.Helper()
	free := h.listen(t, "127.0.0.1:0")
	addr = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir := workDir(t)
	var conf strings.Builder
	fmt.Fprintf(&conf, "server.modules = (\"mod_wstunnel\")\nserver.document-root = %q\nserver.bind = \"127.0.0.1\"\nserver.port = %s\n", dir, port)
	for path, backend := range paths {
		host, port, _ := net.SplitHostPort(backend)
		fmt.Fprintf(&conf, "$HTTP[\"url\"] =^ %q {\n\twstunnel.server = (%q => ((\"host\" => %q, \"port\" => %s)))\n", path, path, host, port)
		if ft := frameType(path); ft != "" {
			fmt.Fprintf(&conf, "\twstunnel.frame-type = %q\n", ft)
		}
		if path == "/listed" {
			fmt.Fprintf(&conf, "\twstunnel.origins = (%q)\n", listedOrigin)
		}
		conf.WriteString("}\n")
	}
	h.start(t, "lighttpd", spec{argv: []string{"lighttpd", "-D", "-f", writeFile(t, dir, "lighttpd.conf", conf.String())}}).
		awaitPort(t, h, addr)
	return addr
}

func aditRoutes(t *testing.T, h *host, paths map[string]string) (addr string) {
	t.Helper()
	conf := "listen = [\"127.0.0.1:0\"]\ntls = {off = true}\n"
	for path, backend := range paths {
		var more []string
		if ft := frameType(path); ft != "" {
			more = append(more, fmt.Sprintf("frame-type = %q", ft))
		}
		if path == "/listed" {
			more = append(more, fmt.Sprintf("origins = [%q]", listedOrigin))
		}
		conf += route(path, backend, more...)
	}
	return h.server(t, "--config", writeFile(t, workDir(t), "server.toml", conf)).addr
}

// The page in docs/gateway.md works in a browser with either server.
func TestDocumentedPage(t *testing.T) {
	need(t, "lighttpd", "chromium", "chromedriver")
	text, err := os.ReadFile("../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := strings.Cut(string(text), "```html\n")
	page, _, ok2 := strings.Cut(page, "```\n")
	if !ok || !ok2 {
		t.Fatal("docs/gateway.md has no page")
	}
	h := isolated(t, "machine")
	b := &backends{host: h, dir: workDir(t)}
	b.startJSON(t)
	site := workDir(t)
	writeFile(t, site, "index.html", page)

	jsonHost, jsonPort, _ := net.SplitHostPort(jsonBackend)
	const lighttpdAddr, lighttpdPort = "127.0.0.1:8081", "8081"
	h.start(t, "lighttpd", spec{argv: []string{"lighttpd", "-D", "-f", writeFile(t, workDir(t), "lighttpd.conf", fmt.Sprintf(`server.modules = ("mod_wstunnel")
server.document-root = %q
server.bind = "127.0.0.1"
server.port = %s
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html; charset=utf-8")
wstunnel.server = ("/json" => (("host" => %q, "port" => %s)))
wstunnel.frame-type = "text"
`, site, lighttpdPort, jsonHost, jsonPort))}}).awaitPort(t, h, lighttpdAddr)
	s := h.server(t, "--no-tls", "--listen", "127.0.0.1:8082", "--site", site, "--route", "/json="+jsonBackend+"?frame-type=text")

	browser := browserOptions{http1: true}.chromium(t, h)
	for name, addr := range map[string]string{"lighttpd": lighttpdAddr, "adit": s.addr} {
		browser.open("http://" + addr + "/")
		browser.waitFor("#state", "open")
		for i := range 3 {
			line, _ := json.Marshal(jsonRequest{ID: i, Text: name + " žluťoučký"})
			browser.eval(fmt.Sprintf(`document.querySelector("input").value = %q, document.querySelector("button").click(), ""`, line))
			browser.waitFor("li:last-child", fmt.Sprintf(`{"id":%d,"length":%d,"text":"%s žluťoučký"}`, i, len(name+" žluťoučký"), name))
		}
		if got := browser.eval(`String(document.querySelectorAll("li").length)`); got != "3" {
			t.Errorf("%s: %s answers, want 3", name, got)
		}
	}
}
