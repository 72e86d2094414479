package admin_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"adit/admin"
	"adit/auth"
	"adit/client"
	"adit/internal/metrics"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
	"adit/tunnel"
	"adit/tunnel/dial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watchdog is how long a test waits for an event before it fails.
const watchdog = 30 * time.Second

// ends is a server, a client with a forward to an echo server, and the Admin of
// each.
type ends struct {
	server      *server.Server
	serverAdmin *admin.Admin
	clientAdmin *admin.Admin
	forward     string
	reloads     *metrics.Reloads
	stop        func() // stops the server without draining
}

const user = "<b>alice</b>"

func start(t *testing.T) *ends {
	t.Helper()
	e := &ends{reloads: &metrics.Reloads{}}
	users, err := auth.NewUsers([]auth.User{{Name: user, TokenHashes: []string{auth.HashToken("token")}, Allow: []string{"*:*"}}})
	if err != nil {
		t.Fatal(err)
	}
	echo := testnet.Echo(t)
	e.server, err = server.New(server.Config{}, server.Access{Users: users, Targets: map[string]string{"echo": echo}, Routes: []server.Route{
		{Path: "/json", Backends: []string{echo}}, {Path: "/json", Exact: true, Backends: []string{echo}}, {Path: "/other", Host: "gw.test", Backends: []string{echo}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ca := testnet.NewCA(t, "admin test")
	ln := testnet.Listen(t)
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(ln, ca.ServerConfig(t)) }()
	stopped := false
	e.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		e.server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(e.stop)

	up := make(chan struct{}, 16)
	c, err := client.New(client.Config{
		Servers: []string{"wss://" + ln.Addr().String() + "/tunnel"},
		Dial: &dial.Options{TLS: ca.ClientConfig(), Authorization: func() (string, error) {
			return "Bearer token", nil
		}},
		Forwards: []client.Forward{{Network: "tcp", Address: "127.0.0.1:0", Target: mux.Target{Kind: mux.TCP, Address: echo}}},
		OnState: func(s client.State) {
			if s.Up {
				up <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	e.forward = c.Addrs()[0].String()
	if e.clientAdmin, err = admin.New(admin.Config{Client: c, Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	if rec := ask(t, e.clientAdmin, "/readyz"); rec.StatusCode != 503 || rec.body != "503 not ready: connecting\n" {
		t.Errorf("a client before it runs: %d %q", rec.StatusCode, rec.body)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	e.serverAdmin, err = admin.New(admin.Config{
		Server: e.server, Version: "v1", Reloads: e.reloads, AuditLost: func() uint64 { return 7 },
		Certificates: func() []admin.Certificate {
			return []admin.Certificate{{Name: "gw.test\xff", Expires: time.Unix(1e9, 0)}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-up:
	case <-time.After(watchdog):
		t.Fatal("no link")
	}
	return e
}

type answer struct {
	*http.Response
	body string
}

// ask sends one request over TCP. headers are names and values; Host and Method
// set the request's own.
func ask(t *testing.T, a *admin.Admin, path string, headers ...string) answer {
	t.Helper()
	ln := testnet.Listen(t)
	return askAt(t, a, ln, path, headers...)
}

func askAt(t *testing.T, a *admin.Admin, ln net.Listener, path string, headers ...string) answer {
	t.Helper()
	srv := &http.Server{Handler: a.Handler()}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() { srv.Close(); <-served }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+testHost+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "127.0.0.1:9090"
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			r.Host = headers[i+1]
		case "Method":
			r.Method = headers[i+1]
		default:
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	c := &http.Client{Timeout: watchdog, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial(ln.Addr().Network(), ln.Addr().String())
	}}}
	reply, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{reply, string(body)}
}

const testHost = "127.0.0.1:9090"

// echoOnce sends data through the tunnel and back.
func (e *ends) echoOnce(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", e.forward)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(watchdog))
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestMetricsAreValid(t *testing.T) {
	e := start(t)
	e.echoOnce(t)
	e.reloads.Note(false)
	for name, a := range map[string]*admin.Admin{"server": e.serverAdmin, "client": e.clientAdmin} {
		r := prometheus.NewPedanticRegistry()
		if err := r.Register(a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		problems, err := testutil.GatherAndLint(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
		got := ask(t, a, "/metrics")
		if got.StatusCode != 200 || !strings.Contains(got.body, "adit_build_info") || !strings.Contains(got.body, "go_goroutines") {
			t.Errorf("%s: %d\n%s", name, got.StatusCode, got.body)
		}
	}
	for _, line := range []string{
		`adit_sessions{user="<b>alice</b>"} 1`, "adit_streams_opened_total 1", "adit_draining 0", "adit_ready 1", "adit_audit_records_lost_total 7",
		`adit_streams_refused_total{reason="forbidden",user="<b>alice</b>"} 0`, `adit_tickets_total{event="issued"} 0`,
		`adit_target_streams_opened_total{target="echo"} 0`, `adit_target_streams_refused_total{reason="refused",target="echo"} 0`,
		`adit_route_connections{route="/json (exact)"} 0`, `adit_route_connections{route="gw.test/other"} 0`,
		"adit_certificate_expiry_timestamp_seconds{name=\"gw.test\uFFFD\"} 1e+09", `adit_config_reloads_total{result="failure"} 1`,
	} {
		if got := ask(t, e.serverAdmin, "/metrics").body; !strings.Contains(got, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestStatus(t *testing.T) {
	e := start(t)
	e.echoOnce(t)
	e.reloads.Note(true)
	e.reloads.Note(false)
	got := ask(t, e.serverAdmin, "/status")
	var d admin.ServerDocument
	if err := json.Unmarshal([]byte(got.body), &d); err != nil {
		t.Fatal(err)
	}
	if d.Role != "server" || d.Version != "v1" || !d.Ready || d.Reloads.Good != 1 || d.Reloads.Bad != 1 || len(d.Listeners) != 1 || !d.Listeners[0].TLS {
		t.Errorf("%+v", d.Head)
	}
	if len(d.Sessions) != 1 || d.Sessions[0].User != user || !d.Sessions[0].Connected || d.Sessions[0].Received == 0 || d.Sessions[0].Sent == 0 || len(d.Sessions[0].ID) == 0 {
		t.Errorf("%+v", d.Sessions)
	}
	if d.Counts.SessionsOpened != 1 || d.Counts.StreamsOpened != 1 || d.Counts.Users[user].Received < 5 || len(d.Routes) != 3 {
		t.Errorf("%+v", d.Counts)
	}
	got = ask(t, e.clientAdmin, "/status")
	var c admin.ClientDocument
	if err := json.Unmarshal([]byte(got.body), &c); err != nil {
		t.Fatal(err)
	}
	if c.Role != "client" || !c.Link.Up || len(c.Sessions) != 1 || c.Sessions[0].Received == 0 || len(c.Forwards) != 1 || c.Forwards[0].Listen != e.forward || c.Forwards[0].Opened != 1 || c.Counts.Received == 0 {
		t.Errorf("%+v", c)
	}
	if got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", got.Header)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	e := start(t)
	for name, a := range map[string]*admin.Admin{"server": e.serverAdmin, "client": e.clientAdmin} {
		for path, want := range map[string]string{"/healthz": "healthy\n", "/readyz": "ready\n"} {
			if got := ask(t, a, path); got.StatusCode != 200 || got.body != want {
				t.Errorf("%s %s: %d %q", name, path, got.StatusCode, got.body)
			}
		}
	}
	e.stop()
	if got := ask(t, e.serverAdmin, "/readyz"); got.StatusCode != 503 || got.body != "503 not ready: the server is stopping\n" {
		t.Errorf("a stopping server: %d %q", got.StatusCode, got.body)
	}
	deadline := time.Now().Add(watchdog)
	for {
		got := ask(t, e.clientAdmin, "/readyz")
		if got.StatusCode == 503 && got.body != "503 not ready: connecting\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a client without a server: %d %q", got.StatusCode, got.body)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := ask(t, e.clientAdmin, "/healthz"); got.StatusCode != 200 {
		t.Errorf("a client without a server: %d %q", got.StatusCode, got.body)
	}
}

func TestRefusesOtherSites(t *testing.T) {
	e := start(t)
	for _, c := range []struct {
		path    string
		headers []string
		want    int
	}{
		{"/status", []string{"Host", "localhost"}, 200},
		{"/status", []string{"Host", "localhost:9090"}, 200},
		{"/status", []string{"Host", "[::1]:9090"}, 200},
		{"/status", []string{"Host", "[::1]"}, 200},
		{"/status", []string{"Host", "127.1.2.3"}, 200},
		{"/status", []string{"Host", "rebound.example:9090"}, 421},
		{"/metrics", []string{"Host", "rebound.example"}, 421},
		{"/", []string{"Host", "localhost.example:9090"}, 421},
		{"/status", []string{"Host", "192.0.2.1:9090"}, 421},
		{"/status", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"/status", []string{"Sec-Fetch-Site", "none"}, 200},
		{"/status", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"/metrics", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"/", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"/status", []string{"Method", "POST"}, 405},
		{"/nothing", nil, 404},
		{"/debug/pprof/", nil, 404},
	} {
		got := ask(t, e.serverAdmin, c.path, c.headers...)
		if got.StatusCode != c.want {
			t.Errorf("%s %q: %d, want %d: %s", c.path, c.headers, got.StatusCode, c.want, got.body)
		}
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			if got.Header.Get(name) != "" {
				t.Errorf("%s %q: %s is set", c.path, c.headers, name)
			}
		}
		if !strings.Contains(got.Header.Get("Content-Security-Policy"), "default-src 'none'") || got.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %q: %v", c.path, c.headers, got.Header)
		}
	}
	// Browsers cannot connect to a unix socket.
	ln, err := tunnel.ListenUnix(filepath.Join(t.TempDir(), "admin.sock"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := askAt(t, e.serverAdmin, ln, "/status", "Host", "whatever"); got.StatusCode != 200 {
		t.Errorf("over a unix socket: %d", got.StatusCode)
	}
}

func TestPprofOnlyWhenEnabled(t *testing.T) {
	e := start(t)
	a, err := admin.New(admin.Config{Server: e.server, Pprof: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1"} {
		if got := ask(t, a, path); got.StatusCode != 200 {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
		if got := ask(t, e.serverAdmin, path); got.StatusCode != 404 {
			t.Errorf("%s while disabled: %d", path, got.StatusCode)
		}
	}
}

// The page needs no external resources, and its policy allows none.
func TestPageIsSelfContained(t *testing.T) {
	e := start(t)
	got := ask(t, e.serverAdmin, "/")
	policy := got.Header.Get("Content-Security-Policy")
	for _, tag := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(got.body, -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s", len(found), tag)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if !strings.Contains(policy, tag+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("the policy does not allow the %s: %s", tag, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "connect-src 'self'") {
		t.Error(policy)
	}
	if outside := regexp.MustCompile(`(src|href|action)="?(https?:|//)|@import|url\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\seval\(|\sstyle=|\son[a-z]+=`).FindAllString(got.body, -1); len(outside) > 0 {
		t.Errorf("the page has %q", outside)
	}
}

func TestServeAndClose(t *testing.T) {
	e := start(t)
	a, err := admin.New(admin.Config{Server: e.server})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ln := testnet.Listen(t)
	go func() { served <- a.Serve(ln) }()
	reply, err := http.Get("http://" + ln.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	a.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("New accepts an empty Config")
	}
}

// Both ends list an open stream, and the page shows streams, the failures of backends,
// and links to metrics and readiness.
func TestStreamsAreListedAtBothEnds(t *testing.T) {
	e := start(t)
	conn, err := net.Dial("tcp", e.forward)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*admin.Admin{"server": e.serverAdmin, "client": e.clientAdmin} {
		var d struct {
			Sessions []struct {
				Open []metrics.Stream `json:"open_streams"`
			}
		}
		// The relay counts after it has written.
		deadline := time.Now().Add(watchdog)
		for {
			if err := json.Unmarshal([]byte(ask(t, a, "/status").body), &d); err != nil {
				t.Fatal(err)
			}
			if len(d.Sessions) == 1 && len(d.Sessions[0].Open) == 1 && d.Sessions[0].Open[0].Received == 5 && d.Sessions[0].Open[0].Sent == 5 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", name, d)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	page := ask(t, e.serverAdmin, "/").body
	for _, want := range []string{`id="streams"`, "last_failure", `href="metrics"`, `href="readyz"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
}
