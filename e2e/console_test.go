//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

const (
	consoleName = "gw.test"
	consoleURL  = "https://" + consoleName + "/console"
	strangeURL  = "http://other.test:8000/"
)

// Browsers open the page that adit ships and talk to a JSON backend through a route; a page of
// another origin is refused.
func TestConsoleInBrowsers(t *testing.T) {
	for _, c := range []struct {
		name           string
		start          func(browserOptions, *testing.T, *host) *browser
		browserOptions browserOptions
		squid          bool
		try            func(*console, *browser)
	}{
		{"chromium", browserOptions.chromium, browserOptions{http1: true}, false, (*console).use},
		{"chromium-squid", browserOptions.chromium, browserOptions{http1: true, dark: true}, true, (*console).use},
		{"chromium-h2", browserOptions.chromium, browserOptions{}, false, (*console).use},
		{"chromium-h2-squid", browserOptions.chromium, browserOptions{}, true, (*console).use},
		{"firefox", browserOptions.firefox, browserOptions{http1: true}, false, (*console).use},
		{"firefox-h2", browserOptions.firefox, browserOptions{dark: true}, false, (*console).use},
		{"firefox-squid", browserOptions.firefox, browserOptions{http1: true}, true, (*console).use},
		{"firefox-h2-squid", browserOptions.firefox, browserOptions{}, true, (*console).useWithoutOrigin},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := isolated(t, "machine")
			h.addName(t, consoleName, "127.0.0.1")
			h.addName(t, "other.test", "127.0.0.1")
			g := newConsole(t, h)
			accesses := ""
			if c.squid {
				c.browserOptions.proxy, accesses = openSquid(t, h)
			}
			c.browserOptions.spki = g.spki
			b := c.start(c.browserOptions, t, h)
			b.resize(1100, 800)
			c.try(g, b)
			// GODEBUG=http2debug makes net/http log the headers of HTTP/2 requests.
			page, socket := g.server.count(`":path" = "/console/"`), g.server.count(`":protocol" = "websocket"`)
			if c.browserOptions.http1 != (page == 0) || c.browserOptions.http1 != (socket == 0) {
				t.Errorf("%d pages and %d WebSockets over HTTP/2", page, socket)
			}
			if g.server.count(`msg=.*`+g.token) > 0 {
				t.Error("the token is in the log")
			}
			// Some connections must be refused.
			b.noComplaints("wss://" + consoleName + "/")
			if c.squid {
				b.process.destroy()
				eventually(t, patience, "squid has logged the browser's connections", func() error {
					if noted := readFile(t, accesses); !strings.Contains(noted, "CONNECT "+consoleName+":443 200\n") {
						return fmt.Errorf("it has logged %q", noted)
					}
					return nil
				})
			}
		})
	}
}

// A console is a server with the page and a route to the JSON backend that the page talks to.
type console struct {
	server *server
	alice  account
	token  string
	spki   string
	goOn   chan struct{} // lets the slow backend continue
}

// slowBackend answers each line in the pieces that the line asks for. Before each piece but the
// first it waits for goOn.
const slowBackend = "127.0.0.1:8001"

func newConsole(t *testing.T, h *host) *console {
	t.Helper()
	b := &backends{host: h, dir: workDir(t)}
	b.startJSON(t)
	pair := newKeyPair(t, consoleName)
	g := &console{alice: newAccount(t, h, "alice"), goOn: make(chan struct{})}
	g.startSlow(t, h)
	g.spki = strings.TrimPrefix(strings.TrimSpace(h.adit(t, "pin", pair.cert)), "sha256:")
	g.token = strings.TrimSpace(readFile(t, g.alice.tokenFile))
	p := h.start(t, "adit server", spec{env: []string{"GODEBUG=http2debug=2"}, argv: []string{aditBin, "server",
		"--listen", "127.0.0.1:443", "--tls-cert", pair.cert, "--tls-key", pair.key,
		"--users", writeFile(t, workDir(t), "users.toml", g.alice.users("127.0.0.1:1")),
		"--route", "/json=" + jsonBackend, "--route", "/slow=" + slowBackend, "--route", "/mine=" + jsonBackend + "?users=alice&frame-type=text",
		"--demo-page", "/console"}})
	cleanStop(t, p)
	g.server = &server{p, p.wait(t, `msg=listening addr=(\S+)`, 1)[1]}
	// The server of pages of another origin.
	l := h.listen(t, "127.0.0.1:8000")
	strange := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><title>Another site</title><link rel="icon" href="data:,">`)
	}), ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		strange.Serve(l)
	}()
	t.Cleanup(func() { strange.Close(); <-done })
	return g
}

func (g *console) startSlow(t *testing.T, h *host) {
	l := h.listen(t, slowBackend)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					var pieces []string
					if json.Unmarshal(lines.Bytes(), &pieces) != nil {
						return
					}
					for i, piece := range pieces {
						if i > 0 {
							<-g.goOn
						}
						io.WriteString(conn, piece)
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); close(g.goOn); serving.Wait() })
}

// slowLines checks that the page shows pieces of an answer before their line ends, and does not
// take the rest of one for the answer to the next request.
func (g *console) slowLines(b *browser) {
	t := b.t
	b.click("#clear")
	g.connect(b, "/slow", "")
	b.waitFor("#state", "Connected")
	request := func(text string) {
		t.Helper()
		b.replace(text)
		b.typeKeys(keyEnter)
	}
	last := func(shown string) {
		t.Helper()
		b.waitFor("#log li.received:last-child code", shown)
	}
	request(`["late end", "\n"]`)
	last("late end\nno end of line")
	g.goOn <- struct{}{}
	request(`["in two", "pieces\n"]`)
	last("in two\nno end of line")
	g.goOn <- struct{}{}
	last("pieces")
	if got := b.eval(`[...document.querySelectorAll("#log li.received")].map((line) => line.querySelector("code").firstChild?.textContent + (line.querySelector(".took") ? ":" : ";")).join("")`); got != "late end:in two:pieces;" {
		t.Errorf("the lines, and which are answers: %q", got)
	}
}

// use operates the page as a person would.
func (g *console) use(b *browser) {
	t := b.t
	// The fragment names no route.
	b.open(consoleURL + "#%")
	if got := b.eval(`location.pathname + " " + document.querySelector("#path").value`); got != "/console/ /json" {
		t.Errorf("the page is %q", got)
	}
	b.screenshot("1-new")

	b.eval(`document.querySelector("#path").focus(), ""`)
	b.typeKeys(keyEnter)
	b.waitFor("#state", "Connected")
	if got := b.focused(); got != "text" {
		t.Errorf("after connecting, the focus is on %q", got)
	}
	b.replace(`{"id": 1, "text": "tunnels – žluťoučký 🐎"}`)
	b.typeKeys(keyEnter)
	b.waitFor("#log li.received code", `{"id":1,"length":30,"text":"tunnels – žluťoučký 🐎"}`)
	if took := b.text("#log li.received .took"); !strings.HasSuffix(took, "ms") {
		t.Errorf("the answer took %q", took)
	}
	b.replace(`{"id": 2, "text": nothing}`)
	b.typeKeys(keyEnter)
	if got := b.text("#error"); !strings.HasPrefix(got, "Not JSON: ") {
		t.Errorf("the error in the JSON: %q", got)
	}
	b.screenshot("2-talking")
	b.replace("")
	// Send the first entry of the history.
	b.typeKeys(keyUp + keyEnter)
	b.waitFor("#counts", "2 sent, 2 received")

	b.click("#connect")
	b.waitFor("#state", "Closed, 1000")

	// On a route that requires a token, connect with and without one.
	g.connect(b, "/mine", "")
	b.waitFor("#state", "Not connected")
	g.connect(b, "/mine", g.token)
	b.waitFor("#state", "Connected")
	b.replace(`{"id": 3, "text": "mine"}`)
	b.typeKeys(keyEnter)
	b.waitFor("#log li.received:last-child code", `{"id":3,"length":4,"text":"mine"}`)
	// This disconnects first.
	g.connect(b, "/nowhere", "")
	b.waitFor("#state", "Not connected")
	b.resize(390, 844)
	b.screenshot("3-phone")
	if wide := b.eval(`String(document.documentElement.scrollWidth > innerWidth)`); wide != "false" {
		t.Error("at a phone's width the page is wider than the screen")
	}
	g.slowLines(b)
	if got := b.foreign("/json"); got != "refused" {
		t.Errorf("a page of another origin: %s", got)
	}
	if got := b.foreign("/mine", "binary", "adit.token."+g.token); got != "refused" {
		t.Errorf("a page of another origin, with a token: %s", got)
	}
}

// useWithoutOrigin does the same where the browser sends no Origin, as Firefox behind a proxy over
// HTTP/2: the page needs a token on every route.
func (g *console) useWithoutOrigin(b *browser) {
	b.open(consoleURL)
	g.connect(b, "/json", "")
	b.waitFor("#state", "Not connected")
	g.connect(b, "/mine", g.token)
	b.waitFor("#state", "Connected")
	b.replace(`{"id": 4, "text": "still mine"}`)
	b.typeKeys(keyEnter)
	b.waitFor("#log li.received code", `{"id":4,"length":10,"text":"still mine"}`)
	b.screenshot("1-without-origin")
	if got := b.foreign("/json"); got != "refused" {
		b.t.Errorf("a page of another origin: %s", got)
	}
}

// replace replaces the text in the field to send.
func (b *browser) replace(text string) {
	b.t.Helper()
	b.eval(`document.querySelector("#text").focus(), document.querySelector("#text").select(), ""`)
	b.typeKeys(keyBackspace + text)
}

// connect fills in the form and submits it.
func (g *console) connect(b *browser, path, token string) {
	b.t.Helper()
	if b.text("#connect") != "Connect" {
		b.eval(`document.querySelector("#connect").click(), ""`)
		b.waitFor("#connect", "Connect")
	}
	b.eval(fmt.Sprintf(`document.querySelector("#path").value = %q, document.querySelector("#token").value = %q, document.querySelector("#connect").click(), ""`, path, token))
	// Do not take the state of the attempt before for the state of this one.
	b.eval(`new Promise((done) => { const wait = () => document.querySelector("#state").dataset.state === "connecting" ? setTimeout(wait, 10) : done(""); wait(); })`)
}

// foreign makes a page of another origin open a route.
func (b *browser) foreign(path string, subprotocols ...string) string {
	b.t.Helper()
	b.open(strangeURL)
	if got := b.eval(`origin + "/ " + document.title`); got != strangeURL+" Another site" {
		b.t.Errorf("the page of another origin is %q", got)
	}
	offered, err := json.Marshal(append([]string{}, subprotocols...))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.eval(fmt.Sprintf(`new Promise((done) => {
		const s = new WebSocket("wss://%s%s", %s);
		s.onopen = () => { done("open"); s.close(); };
		s.onclose = () => done("refused");
	})`, consoleName, path, offered))
}

// openSquid runs squid as a proxy that connects only to the console and the other site. It returns
// its address and its access log, which has a line for each connection that has ended.
func openSquid(t *testing.T, h *host) (addr, accesses string) {
	t.Helper()
	need(t, "squid")
	addr = "127.0.0.1:3128"
	dir := workDir(t)
	accesses = writeFile(t, dir, "access.log", "")
	// squid drops root.
	if err := os.Chmod(accesses, 0o666); err != nil {
		t.Fatal(err)
	}
	conf := writeFile(t, dir, "squid.conf", fmt.Sprintf(`http_port %s
acl own dstdomain -n %s other.test
http_access allow own
http_access deny all
hosts_file /etc/hosts
dns_nameservers 127.0.0.1
cache deny all
cache_mem 0
memory_pools off
logformat access %%rm %%ru %%>Hs
access_log stdio:%s access
cache_store_log none
cache_log stdio:/dev/stderr
logfile_rotate 0
coredump_dir %s
pid_filename none
pinger_enable off
shutdown_lifetime 0
max_filedescriptors 4096
`, addr, consoleName, accesses, dir))
	p := h.start(t, "squid", spec{argv: []string{"squid", "-N", "-n", "aditbrowser", "-f", conf}})
	p.awaitPort(t, h, addr)
	return addr, accesses
}
