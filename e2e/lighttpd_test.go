//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
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

// A wstunnelStep is an action of a client on a connection of its own.
type wstunnelStep struct {
	does   string
	path   string   // "" means /echo
	header []string // additional header lines
	// request replaces parts of the request: pairs of old and new.
	request []string
	send    string // sent after the answer
	enough  int    // bytes of payload, or pongs, that end the step; 0: the server ends it
	backend bool   // the result is what arrived at the backend
	// protocol makes the answer's subprotocol part of the result.
	protocol bool
	same     string // the result of both; "" if the document lists the difference
}

// run returns what the client sees: the status if the answer is no WebSocket, and else the frames
// and how the connection ends.
func (s wstunnelStep) run(addr string, arrived chan string) string {
	for len(arrived) > 0 {
		<-arrived
	}
	conn, err := net.DialTimeout("tcp", addr, watchdog)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(watchdog))
	path := s.path
	if path == "" {
		path = "/echo"
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + exampleKey + "\r\n"
	request = strings.NewReplacer(s.request...).Replace(request)
	for _, line := range s.header {
		request += line + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err.Error()
	}
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return "no answer: " + err.Error()
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body.Close()
		outcome := strconv.Itoa(answer.StatusCode)
		if v := answer.Header.Get("Sec-WebSocket-Version"); v != "" {
			outcome += ", version " + v
		}
		return outcome
	}
	var seen []string
	if p := answer.Header.Get("Sec-WebSocket-Protocol"); p != "" && (s.protocol || strings.Contains(request, "Protocol: ")) {
		seen = append(seen, "protocol "+p)
	}
	if answer.Header.Get("Sec-WebSocket-Extensions") != "" {
		seen = append(seen, "an extension")
	}
	if _, err := io.WriteString(conn, s.send); err != nil {
		return err.Error()
	}
	if s.send == "" && s.enough == 0 && path != "/bye" {
		return strings.Join(append([]string{"open"}, seen...), ", ")
	}
	seen = append(seen, watch(in, s.enough)...)
	if s.backend {
		select {
		case what := <-arrived:
			return fmt.Sprintf("the backend gets %q", what)
		case <-time.After(watchdog):
			return "the backend sees no end"
		}
	}
	return strings.Join(seen, ", ")
}

// watch reads frames of any kind and describes them.
func watch(in *bufio.Reader, enough int) (seen []string) {
	data, kind, pongs := "", "", 0
	tell := func(end ...string) []string {
		if data != "" {
			seen = append(seen, fmt.Sprintf("%s %s", kind, shortened(data)))
		}
		if pongs > 0 {
			seen = append(seen, "pong")
		}
		return append(seen, end...)
	}
	for {
		if enough > 0 && len(data)+pongs >= enough {
			return tell()
		}
		op, payload, err := anyFrame(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return tell("silence")
		case err != nil:
			return tell("TCP ends without Close")
		case op == opText:
			kind = "text"
		case op == opBinary:
			kind = "binary"
		}
		switch {
		case op < opClose:
			data += payload
		case op == opPong:
			pongs++
		case op == opClose && payload == "":
			return tell("closed without code")
		case op == opClose && len(payload) == 2:
			return tell("closed " + strconv.Itoa(int(binary.BigEndian.Uint16([]byte(payload)))))
		case op == opClose && len(payload) > 2:
			if code := int(binary.BigEndian.Uint16([]byte(payload))); closeCodeAllowed(code) {
				return tell("closed " + strconv.Itoa(code))
			}
			return tell(fmt.Sprintf("closed with the bytes %q", payload))
		}
	}
}

func shortened(s string) string {
	if len(s) > 20 {
		return strconv.Itoa(len(s)) + " bytes"
	}
	return strconv.Quote(s)
}

// anyFrame reads a frame of a server without validating it.
func anyFrame(in *bufio.Reader) (op byte, payload string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, "", err
	}
	length := uint64(head[1] & 0x7f)
	if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
		ext := make([]byte, 8)
		if _, err := io.ReadFull(in, ext[8-n:]); err != nil {
			return 0, "", err
		}
		length = binary.BigEndian.Uint64(ext)
	}
	if length > 1<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes", length)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(in, b)
	return head[0] & 0x0f, string(b), err
}

var wstunnelScript = []wstunnelStep{
	// The handshake.
	{does: "opens the route's path", same: "open"},
	{does: "opens a path below it", path: "/echo/below", same: "open"},
	{does: "opens `/echoes` where the route is `/echo`", path: "/echoes"},
	{does: "asks for a page at the route's path", request: []string{"Upgrade: websocket\r\n", "", "Connection: Upgrade\r\n", ""}, same: "404"},
	{does: "opens with `Connection: keep-alive, Upgrade`", request: []string{"Connection: Upgrade", "Connection: keep-alive, Upgrade"}, same: "open"},
	{does: "opens with version 8", request: []string{"Version: 13", "Version: 8"}},
	{does: "opens without a key", request: []string{"Sec-WebSocket-Key: " + exampleKey + "\r\n", ""}, same: "400"},
	{does: "opens a route whose backend refuses", path: "/dead"},
	{does: "offers no subprotocol", protocol: true},
	{does: "offers the subprotocol `chat`", header: []string{"Sec-WebSocket-Protocol: chat"}},
	{does: "offers the subprotocol `binary`", path: "/plain", header: []string{"Sec-WebSocket-Protocol: chat, binary"}, send: f(fin|opBinary, "abc"), enough: 3, same: `protocol binary, binary "abc"`},
	{does: "offers `base64`; the backend sends `hi`", path: "/greet", header: []string{"Sec-WebSocket-Protocol: base64"}, enough: 2},
	{does: "offers `permessage-deflate`", header: []string{"Sec-WebSocket-Extensions: permessage-deflate"}, same: "open"},
	{does: "comes from a listed page", path: "/listed", header: []string{"Origin: " + listedOrigin}, same: "open"},
	{does: "comes from a page that is not listed", path: "/listed", header: []string{"Origin: https://evil.test"}, same: "403"},
	{does: "sends no Origin to a route with a list", path: "/listed"},
	{does: "comes from `xhttps://app.example.com`, the list has it without x", path: "/listed", header: []string{"Origin: x" + listedOrigin}, same: "403"},
	{does: "comes from a listed page, in capital letters", path: "/listed", header: []string{"Origin: " + strings.ToUpper(listedOrigin)}},
	{does: "comes from another site's page, and there is no list", header: []string{"Origin: https://evil.test"}},
	{does: "comes from a page of the same host, and there is no list", header: []string{"Origin: https://gw.test"}, same: "open"},

	// The data.
	{does: "sends a message, and no frame type is configured", path: "/plain", send: f(fin|opText, "abc"), enough: 3},
	{does: "sends text, the frame type is binary", send: f(fin|opText, "abc"), enough: 3, same: `binary "abc"`},
	{does: "sends two fragments with a ping between", send: f(opBinary, "ab") + f(fin|opPing, "p") + f(fin|opCont, "c"), enough: 4, same: `binary "abc", pong`},
	{does: "sends a message of 2047 bytes", send: f(fin|opBinary, strings.Repeat("x", 2047)), enough: 2047, same: "binary 2047 bytes"},
	{does: "sends a message of 2048 bytes", send: f(fin|opBinary, strings.Repeat("x", 2048)), enough: 2048, same: "binary 2048 bytes"},
	{does: "sends a message of 70000 bytes", send: f(fin|opBinary, strings.Repeat("x", 70000)), enough: 70000, same: "binary 70000 bytes"},
	{does: "pings with 125 bytes", send: f(fin|opPing, strings.Repeat("p", 125)), enough: 1, same: "pong"},
	{does: "pings with 126 bytes", send: f(fin|opPing, strings.Repeat("p", 126)), enough: 1},
	{does: "sends a fragmented ping", send: f(opPing, "p"), enough: 1},
	{does: "sends text that is not UTF-8", send: f(fin|opText, "\xffab"), enough: 3},
	{does: "sets a reserved bit", send: f(fin|rsv1|opBinary, "abc"), enough: 3},
	{does: "sends opcode 3", send: f(fin|3, "abc"), enough: 3},
	{does: "sends a continuation of nothing", send: f(fin|opCont, "abc"), enough: 3},
	{does: "begins a message inside a message", send: f(opBinary, "") + f(fin|opBinary, "def"), enough: 3},
	{does: "sends an unmasked frame", send: unmasked(fin|opBinary, "abc"), enough: 3},

	// The end.
	{does: "waits; the backend sends `bye` and ends", path: "/bye"},
	{does: "sends a byte; the backend resets", path: "/reset", send: f(fin|opBinary, "x")},
	{does: "closes with 1000", send: closing(1000, "")},
	{does: "closes with 3001", send: closing(3001, "bye")},
	{does: "closes without a code", send: f(fin|opClose, "")},
	{does: "closes with 1005, which must not be sent", send: closing(1005, "")},
	{does: "closes with a payload of one byte", send: f(fin|opClose, "x")},
	{does: "sends data and Close in one segment", path: "/sink", send: f(fin|opBinary, "last words") + closing(1000, ""), backend: true},
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
