//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// observed is a server with an admin address on loopback, and what its clients need.
type observed struct {
	host   *host
	pair   keyPair
	server *server
	admin  string // HOST:PORT
	conf   string // the server's configuration file
	users  []account
}

// newObserved starts a server whose users may reach the targets. more is added to its
// configuration.
func newObserved(t *testing.T, names []string, more string, targets ...string) *observed {
	t.Helper()
	h := machine(t)
	w := &observed{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1")}
	var tables strings.Builder
	for i, name := range names {
		a := newAccount(t, h, fmt.Sprintf("user%d", i))
		a.name = name
		w.users = append(w.users, a)
		tables.WriteString(a.users(targets...))
	}
	w.conf = writeFile(t, workDir(t), "server.toml", fmt.Sprintf(`listen = ["127.0.0.1:0"]
[tls]
cert = %q
key = %q
[admin]
listen = "127.0.0.1:0"
%s
%s`, w.pair.cert, w.pair.key, tables.String(), more))
	w.server = h.server(t, "--config", w.conf)
	w.admin = w.server.wait(t, `msg="admin address" addr=(\S+)`, 1)[1]
	return w
}

// client starts a client of a user with a forward to target and more arguments. It returns the
// forward's address.
func (w *observed) client(t *testing.T, user int, server, target string, more ...string) (c *client, forward string) {
	t.Helper()
	c = w.host.clientUnlinked(t, append(append([]string{"--proxy", "none", "--token-file", w.users[user].tokenFile, "--ca", w.pair.ca,
		"-L", "127.0.0.1:0:" + target}, more...), "wss://"+server+tunnelPath)...)
	return c, c.listens(t, target)
}

// get requests a path of the admin address.
func get(t *testing.T, admin, path string) (status int, body string) {
	t.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	network := "tcp"
	if socket, ok := strings.CutPrefix(admin, "unix:"); ok {
		network, admin = "unix", socket
		c.Transport = &http.Transport{DisableKeepAlives: true, Dial: func(string, string) (net.Conn, error) { return net.Dial(network, socket) }}
		admin = "localhost"
	}
	reply, err := c.Get("http://" + admin + path)
	if err != nil {
		t.Fatalf("request to the admin address: %v", err)
	}
	defer reply.Body.Close()
	data, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatalf("request to the admin address: %v", err)
	}
	return reply.StatusCode, string(data)
}

// echoLoop sends n bytes to an echo and reads them back, again and again, until stop is closed.
func echoLoop(t *testing.T, wg *sync.WaitGroup, addr string, n int, pause time.Duration, stop <-chan struct{}) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connect to the forward: %v", err)
	}
	wg.Go(func() {
		defer conn.Close()
		b := make([]byte, n)
		for {
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(b); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			if _, err := io.ReadFull(conn, b); err != nil {
				t.Errorf("read: %v", err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(pause):
			}
		}
	})
}

// The status page works in a browser in light and dark mode and at the width of a phone while 200
// streams of five users are open, and so does adit status in a terminal. One user's name contains
// HTML.
func TestStatusPage(t *testing.T) {
	echo := testnet.Echo(t)
	const hostile = `<img src=x onerror=alert(1)>`
	w := newObserved(t, []string{"alice", "bob", "carol", "deploy", hostile}, fmt.Sprintf(`[[route]]
path = "/json"
backend = [%q]
[[route]]
path = "/metrics"
backend = ["127.0.0.1:1"]
users = ["alice", "bob"]
`, echo), echo)
	clientPage := ""
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for user, load := range []struct{ streams, bytes, pauseMS int }{{80, 2000, 200}, {60, 400, 300}, {40, 12000, 250}, {1, 60000, 100}, {19, 100, 500}} {
		c, forward := w.client(t, user, w.server.addr, echo, "--admin-listen", "127.0.0.1:0")
		if user == 0 {
			clientPage = "http://" + c.wait(t, `msg="admin address" addr=(\S+)`, 1)[1] + "/"
		}
		for range load.streams {
			echoLoop(t, &wg, forward, load.bytes, time.Duration(load.pauseMS)*time.Millisecond, stop)
		}
	}
	// Cause some common failures.
	for range 3 {
		if conn, err := tls.Dial("tcp", w.server.addr, &tls.Config{}); err == nil {
			conn.Close()
			t.Error("a certificate of an unknown authority is accepted")
		}
	}
	wrong := newAccount(t, w.host, "wrong")
	c := w.host.clientUnlinked(t, "--proxy", "none", "--token-file", wrong.tokenFile, "--ca", w.pair.ca, "-L", "127.0.0.1:0:"+echo, "wss://"+w.server.addr+tunnelPath)
	c.wait(t, `refused by server`, 1)

	page := "http://" + w.admin + "/"
	for _, theme := range []struct {
		name string
		dark bool
	}{{"light", false}, {"dark", true}} {
		t.Run(theme.name, func(t *testing.T) {
			b := browserOptions{dark: theme.dark}.chromium(t, w.host)
			b.resize(1280, 1100)
			b.open(page)
			b.waitFor("#state", "Ready")
			b.waitFor(".tile:nth-child(2) .value", "200")
			if got := b.eval(`[...document.querySelectorAll("#sessions tbody tr .strong")].map((e) => e.textContent).sort().join(" ")`); got != hostile+" alice bob carol deploy" {
				t.Errorf("the sessions belong to %q", got)
			}
			if got := b.eval(`String(document.images.length)`); got != "0" {
				t.Error("a user's name was rendered as HTML")
			}
			// Wait until the charts have several points.
			b.eval(`new Promise((done) => { const wait = () => (document.querySelector(".tile.wide path:last-child").getAttribute("d") ?? "").split("L").length > 5 ? done("") : setTimeout(wait, 50); wait(); })`)
			if got := b.eval(`document.querySelector("#trouble").innerText`); !strings.Contains(got, "tls 3") || !strings.Contains(got, "authentication") {
				t.Errorf("failures: %q", got)
			}
			b.screenshot("status-" + theme.name)
			b.eval(`document.querySelector("#find").value = "carol", document.querySelector("#find").dispatchEvent(new Event("input")), ""`)
			if got := b.eval(`document.querySelector("#sessions tbody").innerText`); !strings.Contains(got, "carol") || strings.Contains(got, "alice") {
				t.Errorf("found: %q", got)
			}
			b.eval(`document.querySelector("#find").value = "", document.querySelector("#find").dispatchEvent(new Event("input")), ""`)
			b.resize(390, 844)
			if wide := b.eval(`String(document.documentElement.scrollWidth > innerWidth)`); wide != "false" {
				t.Error("at a phone's width the page is wider than the screen")
			}
			b.screenshot("status-" + theme.name + "-phone")
			b.eval(`document.querySelector("#sessions").scrollIntoView(), ""`)
			b.screenshot("status-" + theme.name + "-phone-sessions")
			b.open(clientPage)
			b.waitFor("#state", "Link up")
			b.waitFor(".tile:nth-child(2) .value", "80")
			if got := b.text("#forwards tbody"); !strings.Contains(got, echo) {
				t.Errorf("the forwards are %q", got)
			}
			b.screenshot("status-" + theme.name + "-client-phone")
			b.resize(1280, 800)
			b.screenshot("status-" + theme.name + "-client")
			b.noComplaints()
		})
	}

	out := w.host.run(t, "", aditBin, "status", "--admin", w.admin)
	for _, pattern := range []string{`adit server \S+, up .*, ready`, `now +5 sessions, 200 streams`, `(?m)^bob +127\.0\.0\.1:\d+ +60 `, `handshakes failed +authentication \d+, tls 3`, `(?m)^/json `, `certificate +localhost expires in`} {
		if !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("adit status does not say %q:\n%s", pattern, out)
		}
	}
	t.Logf("adit status:\n%s", out)
}

// adit status finds the services that systemd runs without an address; other users may not query
// them.
func TestStatusFindsServices(t *testing.T) {
	h := isolated(t, "machine")
	pair, alice := newKeyPair(t, "127.0.0.1"), newAccount(t, h, "alice")
	h.run(t, "", "mkdir", "-p", "/run/adit", "/run/adit-client/office")
	p := h.start(t, "adit server", spec{env: []string{"RUNTIME_DIRECTORY=/run/adit"}, argv: []string{aditBin, "server", "--listen", "127.0.0.1:443",
		"--tls-cert", pair.cert, "--tls-key", pair.key, "--users", writeFile(t, workDir(t), "users.toml", alice.users("127.0.0.1:1"))}})
	cleanStop(t, p)
	p.wait(t, `msg="admin address" addr=unix:/run/adit/admin\.sock`, 1)
	p.wait(t, `msg=listening`, 1)
	p = h.start(t, "adit client", spec{env: []string{"RUNTIME_DIRECTORY=/run/adit-client/office"}, argv: []string{aditBin, "client", "--proxy", "none",
		"--token-file", alice.tokenFile, "--ca", pair.ca, "-L", "127.0.0.1:2222:127.0.0.1:1", "wss://127.0.0.1"}})
	cleanStop(t, p)
	p.wait(t, linkUp, 1)
	out := h.run(t, "", aditBin, "status")
	for _, want := range []string{"adit server ", "(unix:/run/adit/admin.sock)", "alice ", "adit client ", "(unix:/run/adit-client/office/admin.sock)", "127.0.0.1:2222 "} {
		if !strings.Contains(out, want) {
			t.Errorf("adit status does not say %q:\n%s", want, out)
		}
	}
	other := h.start(t, "adit status", spec{argv: []string{aditBin, "status"}, cred: &syscall.Credential{Uid: 65534, Gid: 65534}})
	<-other.done
	if other.cmd.ProcessState.ExitCode() != 1 || other.count("permission denied") != 2 || other.count("sudo adit status") == 0 {
		t.Errorf("another user's adit status: %v\n%s", other.cmd.ProcessState, other.log.tail(20))
	}
}
