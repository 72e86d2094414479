//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
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

// A metricHistory collects the values that an admin address has exposed over time.
type metricHistory struct {
	admin  string
	values map[string]map[string]bool // every value of a metric, summed over its series
}

func newBoard(admin string) *metricHistory {
	return &metricHistory{admin, make(map[string]map[string]bool)}
}

// poll reads all metrics once and returns their values.
func (b *metricHistory) poll(t *testing.T) map[string]float64 {
	t.Helper()
	status, text := get(t, b.admin, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, text)
	}
	now := make(map[string]float64)
	for line := range strings.Lines(text) {
		m := regexp.MustCompile(`^(adit_[a-z_]+)(\{.*\})? (\S+)\n`).FindStringSubmatch(line)
		if m == nil || strings.HasSuffix(m[1], "_bucket") || strings.HasSuffix(m[1], "_sum") {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		now[strings.TrimSuffix(m[1], "_count")] += v
		now[m[1]+m[2]] = v
	}
	for name, v := range now {
		if b.values[name] == nil {
			b.values[name] = make(map[string]bool)
		}
		b.values[name][fmt.Sprint(v)] = true
	}
	return now
}

// await polls until a metric has a value for which good is true.
func (b *metricHistory) await(t *testing.T, name string, good func(float64) bool) {
	t.Helper()
	eventually(t, patience, name+" has the value", func() error {
		if v := b.poll(t)[name]; !good(v) {
			return fmt.Errorf("it is %v", v)
		}
		return nil
	})
}

func positive(v float64) bool { return v > 0 }
func zero(v float64) bool     { return v == 0 }

// Both ends expose the metrics that docs/metrics.md lists for them and no others, and each metric
// changes in a scenario that has all kinds of events.
func TestEveryMetricChanges(t *testing.T) {
	h := machine(t)
	app := newApplication(t, h)
	limited := newAccount(t, h, "limited")
	dead := testnet.RefusedAddr(t)
	w := newObserved(t, []string{"alice"}, fmt.Sprintf(`[[user]]
name = "limited"
token-hash = %q
allow = [%q]
max-sessions = 1
[[route]]
path = "/app"
backend = [%q]
[[route]]
path = "/dead"
backend = [%q]
`, limited.hash, app.addr, app.addr, dead), app.addr)
	way := testnet.NewFault(t, w.server.addr)
	way.Down()
	socket := filepath.Join(workDir(t), "client.sock")
	forbidden := testnet.RefusedAddr(t)
	c, forward := w.client(t, 0, way.Addr(), app.addr, "-L", "127.0.0.1:0:"+forbidden, "--admin-listen", "unix:"+socket)
	server, client := newBoard(w.admin), newBoard("unix:"+socket)
	began := time.Now() // the server has loaded its configuration and certificate

	// The path to the server is still down.
	client.await(t, `adit_handshake_failures_total{step="tcp"}`, positive)
	client.await(t, "adit_link_up", zero)
	server.poll(t)
	way.Up(t)
	client.await(t, "adit_link_up", positive)
	server.await(t, "adit_link_rtt_seconds", positive)

	// Open a connection, and one that is forbidden.
	near, err := net.Dial("tcp", forward)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	near.SetDeadline(time.Now().Add(patience))
	far := app.accept(t)
	passByte(t, near.(*net.TCPConn), far)
	server.await(t, "adit_streams", positive)
	client.await(t, "adit_forward_connections", positive)
	if refused, err := net.Dial("tcp", c.listens(t, forbidden)); err == nil {
		refused.SetDeadline(time.Now().Add(patience))
		io.ReadAll(refused)
		refused.Close()
	}
	server.await(t, `adit_streams_refused_total{reason="forbidden"}`, positive)
	client.await(t, "adit_forward_connections_refused_total", positive)

	// Send so much data both ways that it is queued for the connection.
	full, err := net.Dial("tcp", forward)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ends := []net.Conn{full, app.accept(t)}
	for _, end := range ends {
		wg.Go(func() { io.Copy(io.Discard, end) })
		wg.Go(func() {
			for b := make([]byte, 64<<10); ; {
				if _, err := end.Write(b); err != nil {
					return
				}
			}
		})
	}
	for _, b := range []*metricHistory{server, client} {
		b.await(t, "adit_link_queued_bytes", positive)
	}
	for _, end := range ends {
		end.Close()
	}
	wg.Wait()
	for _, b := range []*metricHistory{server, client} {
		b.await(t, "adit_streams", func(v float64) bool { return v == 1 })
	}

	// Stop the path while data is in flight, so that it is sent again.
	way.Stall(true)
	for _, end := range []io.Writer{near, far} {
		if _, err := end.Write(make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []*metricHistory{server, client} {
		b.await(t, "adit_link_unacknowledged_bytes", func(v float64) bool { return v >= 20000 })
	}
	way.Down()
	way.Stall(false)
	for _, b := range []*metricHistory{server, client} {
		b.await(t, "adit_sessions_disconnected", positive)
	}
	way.Up(t)
	for _, b := range []*metricHistory{server, client} {
		b.await(t, "adit_link_resumes_total", positive)
		b.await(t, "adit_link_replayed_bytes_total", positive)
	}
	for _, end := range []io.Reader{near, far} {
		if _, err := io.ReadFull(end, make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
	}

	// Unauthenticated clients, wrong tokens, and one client more than is allowed.
	conns := make([]net.Conn, 257)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", w.server.addr); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	server.await(t, `adit_preauth_connections_rejected_total{bound="address"}`, positive)
	for _, conn := range conns {
		conn.Close()
	}
	if conn, err := tls.Dial("tcp", w.server.addr, &tls.Config{}); err == nil {
		conn.Close()
		t.Error("a certificate of an unknown authority is accepted")
	}
	server.await(t, `adit_handshake_failures_total{step="tls"}`, positive)
	wrong := newAccount(t, h, "wrong")
	for _, token := range []string{limited.tokenFile, limited.tokenFile, wrong.tokenFile} {
		args := []string{"--proxy", "none", "--token-file", token, "--ca", w.pair.ca, "-L", "127.0.0.1:0:" + app.addr, "wss://" + w.server.addr + tunnelPath}
		h.clientUnlinked(t, args...).wait(t, `msg="(link up|connect failed|refused by server)"`, 1)
	}
	server.await(t, `adit_handshake_failures_total{step="authentication"}`, positive)
	server.await(t, `adit_sessions_refused_total{reason="limit"}`, positive)
	client.poll(t)

	// A route that works, and one without a backend.
	options := &dial.Options{TLS: &tls.Config{InsecureSkipVerify: true}} // other tests verify the certificate
	conn, err := dial.Dial(t.Context(), "wss://"+w.server.addr+"/app", options)
	if err != nil {
		t.Fatal(err)
	}
	app.accept(t).Close()
	server.await(t, `adit_route_connections_opened_total{route="/app"}`, positive)
	conn.CloseNow()
	conn, err = dial.Dial(t.Context(), "wss://"+w.server.addr+"/app", options)
	if err != nil {
		t.Fatal(err)
	}
	behind := app.accept(t)
	if err := conn.WriteMessage(ws.OpBinary, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(behind, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	server.await(t, "adit_route_bytes_total", positive)
	server.await(t, "adit_route_connections", positive)
	conn.CloseNow()
	if conn, err := dial.Dial(t.Context(), "wss://"+w.server.addr+"/dead", options); err == nil {
		conn.CloseNow()
		t.Error("a route without a backend works")
	}
	server.await(t, `adit_route_connections_refused_total{reason="backend",route="/dead"}`, positive)

	// Reload an invalid file, and a valid one with another certificate.
	good := readFile(t, w.conf)
	writeFile(t, filepath.Dir(w.conf), filepath.Base(w.conf), good+"\nnonsense = 1\n")
	w.server.signal(t, syscall.SIGHUP)
	server.await(t, `adit_config_reloads_total{result="failure"}`, positive)
	// The two timestamps have a resolution of one second; they must differ from those of the start.
	time.Sleep(time.Until(time.Unix(began.Unix()+1, 0)))
	next := newKeyPair(t, "next.test")
	writeFile(t, filepath.Dir(w.conf), filepath.Base(w.conf), strings.NewReplacer(w.pair.cert, next.cert, w.pair.key, next.key).Replace(good))
	w.server.signal(t, syscall.SIGHUP)
	server.await(t, `adit_config_reloads_total{result="success"}`, positive)
	server.await(t, `adit_certificate_expiry_timestamp_seconds{name="next.test"}`, positive)

	// Drain without a time limit: open streams may finish.
	w.server.signal(t, syscall.SIGTERM)
	server.await(t, "adit_draining", positive)
	server.await(t, "adit_ready", zero)
	if status, text := get(t, w.admin, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "stopping") {
		t.Errorf("/readyz of a draining server: %d %q", status, text)
	}
	near.Close()
	far.Close()
	client.await(t, "adit_sessions_ended_total", positive)
	client.await(t, "adit_link_up", zero)
	w.server.stopped = true
	<-w.server.done
	c.stop(t)

	text := readFile(t, filepath.Join("..", "docs", "metrics.md"))
	both, rest, _ := strings.Cut(text[strings.Index(text, "### Both ends"):], "### The server")
	ofServer, rest, _ := strings.Cut(rest, "### The client")
	ofClient, _, _ := strings.Cut(rest, "## The JSON")
	names := regexp.MustCompile("(?m)^\\| `(adit_[a-z_]+)` \\|")
	documented := make(map[string]bool)
	for _, part := range []struct {
		text  string
		ends  []*metricHistory
		never []string // metrics that do not change here
	}{
		{both, []*metricHistory{server, client}, []string{"adit_build_info"}},
		{ofServer, []*metricHistory{server}, nil},
		{ofClient, []*metricHistory{client}, nil},
	} {
		for _, m := range names.FindAllStringSubmatch(part.text, -1) {
			name, moved := m[1], false
			documented[name] = true
			for _, b := range part.ends {
				if len(b.values[name]) == 0 {
					t.Errorf("%s does not have %s", b.admin, name)
				}
				moved = moved || len(b.values[name]) > 1
			}
			if moved == slices.Contains(part.never, name) {
				t.Errorf("%s: changed: %v", name, moved)
			}
		}
	}
	for _, b := range []*metricHistory{server, client} {
		for name := range b.values {
			if !strings.Contains(name, "{") && !documented[name] && !documented[strings.TrimSuffix(name, "_count")] {
				t.Errorf("docs/metrics.md does not have %s", name)
			}
		}
	}
	if len(documented) < 30 {
		t.Errorf("docs/metrics.md has only %d metrics", len(documented))
	}
}
