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

// The page that adit ships, in real browsers: they open it, talk to a JSON backend through a route,
// and a page of another origin is refused.
func TestBrowsers(t *testing.T) {
	for _, c := range []struct {
		name   string
		start  func(surfer, *testing.T, *host) *browser
		surfer surfer
		squid  bool
		try    func(*console, *browser)
	}{
		{"chromium", surfer.chromium, surfer{http1: true}, false, (*console).use},
		{"chromium-squid", surfer.chromium, surfer{http1: true, dark: true}, true, (*console).use},
		{"chromium-h2", surfer.chromium, surfer{}, false, (*console).use},
		{"chromium-h2-squid", surfer.chromium, surfer{}, true, (*console).use},
		{"firefox", surfer.firefox, surfer{http1: true}, false, (*console).use},
		{"firefox-h2", surfer.firefox, surfer{dark: true}, false, (*console).use},
		{"firefox-squid", surfer.firefox, surfer{http1: true}, true, (*console).use},
		{"firefox-h2-squid", surfer.firefox, surfer{}, true, (*console).useUntold},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := isolated(t, "machine")
			h.knows(t, consoleName, "127.0.0.1")
			h.knows(t, "other.test", "127.0.0.1")
			g := newConsole(t, h)
			accesses := ""
			if c.squid {
				c.surfer.proxy, accesses = openSquid(t, h)
			}
			c.surfer.spki = g.spki
			b := c.start(c.surfer, t, h)
			b.resize(1100, 800)
			c.try(g, b)
			// net/http reports what it reads of HTTP/2.
			page, socket := g.server.count(`":path" = "/console/"`), g.server.count(`":protocol" = "websocket"`)
			if c.surfer.http1 != (page == 0) || c.surfer.http1 != (socket == 0) {
				t.Errorf("over HTTP/2 came %d pages and %d WebSockets", page, socket)
			}
			if g.server.count(`msg=.*`+g.token) > 0 {
				t.Error("the token is in the log")
			}
			b.noComplaints("wss://" + consoleName + "/") // some connections are refused, as they should be
			if c.squid {
				b.process.destroy()
				eventually(t, patience, "squid has noted the browser's connections", func() error {
					if noted := readFile(t, accesses); !strings.Contains(noted, "CONNECT "+consoleName+":443 200\n") {
						return fmt.Errorf("it has noted %q", noted)
					}
					return nil
				})
			}
		})
	}
}

// A console is a server with a route to the JSON backend and the page that talks to it.
type console struct {
	server *server
	alice  account
	token  string
	spki   string
	goOn   chan struct{} // has the slow backend go on
}

// slowBackend answers each line in the pieces that it asks for, and waits for leave before each but the
// first.
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
	// What pages of another origin come from.
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

// slowLines has answers come in pieces, which are shown before their line ends: the rest of one is no
// answer to the request after it.
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
	last("late end\nwithout an end of line")
	g.goOn <- struct{}{}
	request(`["in two", "pieces\n"]`)
	last("in two\nwithout an end of line")
	g.goOn <- struct{}{}
	last("pieces")
	if got := b.eval(`[...document.querySelectorAll("#log li.received")].map((line) => line.querySelector("code").firstChild?.textContent + (line.querySelector(".took") ? ":" : ";")).join("")`); got != "late end:in two:pieces;" {
		t.Errorf("the lines, and which are answers: %q", got)
	}
}

// use does what a person does with the page.
func (g *console) use(b *browser) {
	t := b.t
	b.open(consoleURL + "#%") // which names no route
	if got := b.eval(`location.pathname + " " + document.querySelector("#path").value`); got != "/console/ /json" {
		t.Errorf("the page is %q", got)
	}
	b.screenshot("1-new")

	b.eval(`document.querySelector("#path").focus(), ""`)
	b.typeKeys(keyEnter)
	b.waitFor("#state", "Connected")
	if got := b.focused(); got != "text" {
		t.Errorf("after connecting, %q has the focus", got)
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
		t.Errorf("what is wrong with the JSON: %q", got)
	}
	b.screenshot("2-talking")
	b.replace("")
	b.typeKeys(keyUp + keyEnter) // the first one again
	b.waitFor("#counts", "2 sent, 2 received")

	b.click("#connect")
	b.waitFor("#state", "Closed, 1000")

	// With a token, and without it, on a route that asks for one.
	g.connect(b, "/mine", "")
	b.waitFor("#state", "Not connected")
	g.connect(b, "/mine", g.token)
	b.waitFor("#state", "Connected")
	b.replace(`{"id": 3, "text": "mine"}`)
	b.typeKeys(keyEnter)
	b.waitFor("#log li.received:last-child code", `{"id":3,"length":4,"text":"mine"}`)
	g.connect(b, "/nowhere", "") // which first disconnects
	b.waitFor("#state", "Not connected")
	b.resize(390, 844)
	b.screenshot("3-phone")
	if wide := b.eval(`String(document.documentElement.scrollWidth > innerWidth)`); wide != "false" {
		t.Error("on a phone the page is wider than the screen")
	}
	g.slowLines(b)
	if got := b.foreign("/json"); got != "refused" {
		t.Errorf("a page of another origin: %s", got)
	}
	if got := b.foreign("/mine", "binary", "adit.token."+g.token); got != "refused" {
		t.Errorf("a page of another origin, with a token: %s", got)
	}
}

// useUntold does what is left where a browser does not tell the origin of a page, as Firefox behind
// a proxy over HTTP/2: the page needs a token, on whatever route.
func (g *console) useUntold(b *browser) {
	b.open(consoleURL)
	g.connect(b, "/json", "")
	b.waitFor("#state", "Not connected")
	g.connect(b, "/mine", g.token)
	b.waitFor("#state", "Connected")
	b.replace(`{"id": 4, "text": "still mine"}`)
	b.typeKeys(keyEnter)
	b.waitFor("#log li.received code", `{"id":4,"length":10,"text":"still mine"}`)
	b.screenshot("1-untold")
	if got := b.foreign("/json"); got != "refused" {
		b.t.Errorf("a page of another origin: %s", got)
	}
}

// replace has another text in the field of what to send.
func (b *browser) replace(text string) {
	b.t.Helper()
	b.eval(`document.querySelector("#text").focus(), document.querySelector("#text").select(), ""`)
	b.typeKeys(keyBackspace + text)
}

// connect fills the form and sends it.
func (g *console) connect(b *browser, path, token string) {
	b.t.Helper()
	if b.text("#connect") != "Connect" {
		b.eval(`document.querySelector("#connect").click(), ""`)
		b.waitFor("#connect", "Connect")
	}
	b.eval(fmt.Sprintf(`document.querySelector("#path").value = %q, document.querySelector("#token").value = %q, document.querySelector("#connect").click(), ""`, path, token))
	// The outcome of the attempt before is not that of this one.
	b.eval(`new Promise((done) => { const wait = () => document.querySelector("#state").dataset.state === "connecting" ? setTimeout(wait, 10) : done(""); wait(); })`)
}

// foreign has a page of another origin open a route.
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

// openSquid runs squid as a proxy that connects to the console and to the other site, and to nobody
// else. It returns its address, and the file where it notes each connection when that ends.
func openSquid(t *testing.T, h *host) (addr, accesses string) {
	t.Helper()
	need(t, "squid")
	addr = "127.0.0.1:3128"
	dir := workDir(t)
	accesses = writeFile(t, dir, "access.log", "")
	if err := os.Chmod(accesses, 0o666); err != nil { // squid gives up root
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
