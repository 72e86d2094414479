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

// A metricHistory collects the values that an admin address has exposed over time.
type metricHistory struct {
	admin  string
	values map[string]map[string]bool // every value of a metric, summed over its series
}

func newMetricHistory(admin string) *metricHistory {
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

func zero(v float64) bool { return v == 0 }

// Both ends expose the metrics that docs/metrics.md lists for them and no others, and each metric
// changes in a scenario that has all kinds of events.
func TestEveryMetricChanges(t *testing.T) {
	s := newMetricScenario(t)
	s.connect(t)
	s.openStreams(t)
	s.fillQueues(t)
	s.resume(t)
	s.rejectClients(t)
	s.useRoutes(t)
	s.reload(t)
	s.drain(t)
	s.checkDocument(t)
}

// A metricScenario is a server and a client, the path between them, and what both have exposed.
// Its methods are the steps of the scenario in their order.
type metricScenario struct {
	host      *host
	app       *application
	forbidden string  // the address of a target that the policy forbids
	limited   account // may have one session
	observed  *observed
	began     time.Time // the server has loaded its configuration and certificate by then
	path      *testnet.Fault
	cl        *client
	forward   string // the address of the client's forward to app
	near, far *net.TCPConn

	server, client *metricHistory
}

func newMetricScenario(t *testing.T) *metricScenario {
	h := machine(t)
	s := &metricScenario{host: h, app: newApplication(t, h), forbidden: testnet.RefusedAddr(t), limited: newAccount(t, h, "limited")}
	s.observed = newObserved(t, []string{"alice"}, fmt.Sprintf(`[[user]]
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
[[route]]
path = "/private"
backend = [%q]
users = ["alice"]
[[target]]
name = "up"
address = %q
[[target]]
name = "down"
address = %q
`, s.limited.hash, s.app.addr, s.app.addr, testnet.RefusedAddr(t), s.app.addr, s.app.addr, testnet.RefusedAddr(t)), s.app.addr, "up", "down")
	s.began = time.Now()
	s.path = testnet.NewFault(t, s.observed.server.addr)
	s.path.Down()
	socket := filepath.Join(workDir(t), "client.sock")
	s.cl, s.forward = s.observed.client(t, 0, s.path.Addr(), s.app.addr, "-L", "127.0.0.1:0:"+s.forbidden,
		"-L", "127.0.0.1:0:up", "-L", "127.0.0.1:0:down", "--admin-listen", "unix:"+socket)
	s.server, s.client = newMetricHistory(s.observed.admin), newMetricHistory("unix:"+socket)
	return s
}

func (s *metricScenario) both() []*metricHistory { return []*metricHistory{s.server, s.client} }

// connect makes the client fail to connect, and then succeed.
func (s *metricScenario) connect(t *testing.T) {
	s.client.await(t, `adit_handshake_failures_total{step="tcp"}`, positive)
	s.client.await(t, "adit_link_up", zero)
	s.server.poll(t)
	s.path.Up(t)
	s.client.await(t, "adit_link_up", positive)
	s.server.await(t, "adit_link_rtt_max_seconds", positive)
}

// openStreams opens a connection, which stays open, and one that is forbidden.
func (s *metricScenario) openStreams(t *testing.T) {
	conn, err := net.Dial("tcp", s.forward)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	s.near = conn.(*net.TCPConn)
	s.far = s.app.accept(t)
	passByte(t, s.near, s.far)
	s.server.await(t, "adit_streams", positive)
	s.client.await(t, "adit_forward_connections", positive)
	for _, target := range []string{s.forbidden, "down"} {
		if refused, err := net.Dial("tcp", s.cl.listens(t, target)); err == nil {
			refused.SetDeadline(time.Now().Add(patience))
			io.ReadAll(refused)
			refused.Close()
		}
	}
	s.server.await(t, `adit_target_streams_refused_total{reason="refused",target="down"}`, positive)
	if up, err := net.Dial("tcp", s.cl.listens(t, "up")); err == nil {
		s.app.accept(t).Close()
		up.Close()
	}
	s.server.await(t, `adit_target_streams_opened_total{target="up"}`, positive)
	s.server.await(t, "adit_streams", func(v float64) bool { return v == 1 })
	s.server.await(t, `adit_streams_refused_total{reason="forbidden",user="alice"}`, positive)
	s.client.await(t, "adit_forward_connections_refused_total", positive)
}

// fillQueues sends so much data both ways that it is queued for the connection.
func (s *metricScenario) fillQueues(t *testing.T) {
	full, err := net.Dial("tcp", s.forward)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ends := []net.Conn{full, s.app.accept(t)}
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
	for _, b := range s.both() {
		b.await(t, "adit_link_queued_bytes", positive)
	}
	for _, end := range ends {
		end.Close()
	}
	wg.Wait()
	for _, b := range s.both() {
		b.await(t, "adit_streams", func(v float64) bool { return v == 1 })
	}
}

// resume stops the path while data is in flight, so that it is sent again.
func (s *metricScenario) resume(t *testing.T) {
	s.path.Stall(true)
	for _, end := range []io.Writer{s.near, s.far} {
		if _, err := end.Write(make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range s.both() {
		b.await(t, "adit_link_unacknowledged_bytes", func(v float64) bool { return v >= 20000 })
	}
	s.path.Down()
	s.path.Stall(false)
	for _, b := range s.both() {
		b.await(t, "adit_sessions_disconnected", positive)
	}
	s.path.Up(t)
	for _, b := range s.both() {
		b.await(t, "adit_link_resumes_total", positive)
		b.await(t, "adit_link_replayed_bytes_total", positive)
	}
	for _, end := range []io.Reader{s.near, s.far} {
		if _, err := io.ReadFull(end, make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
	}
}

// rejectClients connects unauthenticated clients, clients with wrong tokens, and one more client
// than is allowed.
func (s *metricScenario) rejectClients(t *testing.T) {
	conns := make([]net.Conn, 257)
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", s.observed.server.addr); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	s.server.await(t, `adit_preauth_connections_rejected_total{bound="address"}`, positive)
	for _, conn := range conns {
		conn.Close()
	}
	if conn, err := tls.Dial("tcp", s.observed.server.addr, &tls.Config{}); err == nil {
		conn.Close()
		t.Error("a certificate of an unknown authority is accepted")
	}
	s.server.await(t, `adit_handshake_failures_total{step="tls"}`, positive)
	wrong := newAccount(t, s.host, "wrong")
	for _, token := range []string{s.limited.tokenFile, s.limited.tokenFile, wrong.tokenFile} {
		args := []string{"--proxy", "none", "--token-file", token, "--ca", s.observed.pair.ca, "-L", "127.0.0.1:0:" + s.app.addr, "wss://" + s.observed.server.addr + tunnelPath}
		s.host.clientUnlinked(t, args...).wait(t, `msg="(link up|connect failed|refused by server)"`, 1)
	}
	s.server.await(t, `adit_handshake_failures_total{step="authentication"}`, positive)
	s.server.await(t, `adit_sessions_refused_total{reason="limit"}`, positive)
	s.client.poll(t)
}

// useRoutes uses a route that works, and one without a backend.
func (s *metricScenario) useRoutes(t *testing.T) {
	// Other tests verify the certificate.
	options := &dial.Options{TLS: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dial.Dial(t.Context(), "wss://"+s.observed.server.addr+"/app", options)
	if err != nil {
		t.Fatal(err)
	}
	s.app.accept(t).Close()
	s.server.await(t, `adit_route_connections_opened_total{route="/app"}`, positive)
	conn.CloseNow()
	conn, err = dial.Dial(t.Context(), "wss://"+s.observed.server.addr+"/app", options)
	if err != nil {
		t.Fatal(err)
	}
	behind := s.app.accept(t)
	if err := conn.WriteMessage(ws.OpBinary, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(behind, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	s.server.await(t, "adit_route_bytes_total", positive)
	s.server.await(t, "adit_route_connections", positive)
	conn.CloseNow()
	if conn, err := dial.Dial(t.Context(), "wss://"+s.observed.server.addr+"/dead", options); err == nil {
		conn.CloseNow()
		t.Error("a route without a backend works")
	}
	s.server.await(t, `adit_route_connections_refused_total{reason="backend",route="/dead"}`, positive)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.observed.server.addr+"/private/.ticket", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(readFile(t, s.observed.users[0].tokenFile)))
	reply, err := (&http.Transport{TLSClientConfig: options.TLS, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	s.server.await(t, `adit_tickets_total{event="issued"}`, positive)
}

// reload reloads an invalid file, and a valid one with another certificate.
func (s *metricScenario) reload(t *testing.T) {
	good := readFile(t, s.observed.conf)
	writeFile(t, filepath.Dir(s.observed.conf), filepath.Base(s.observed.conf), good+"\nnonsense = 1\n")
	s.observed.server.signal(t, syscall.SIGHUP)
	s.server.await(t, `adit_config_reloads_total{result="failure"}`, positive)
	// The two timestamps have a resolution of one second; they must differ from those of the start.
	time.Sleep(time.Until(time.Unix(s.began.Unix()+1, 0)))
	next := newKeyPair(t, "next.test")
	writeFile(t, filepath.Dir(s.observed.conf), filepath.Base(s.observed.conf), strings.NewReplacer(s.observed.pair.cert, next.cert, s.observed.pair.key, next.key).Replace(good))
	s.observed.server.signal(t, syscall.SIGHUP)
	s.server.await(t, `adit_config_reloads_total{result="success"}`, positive)
	s.server.await(t, `adit_certificate_expiry_timestamp_seconds{name="next.test"}`, positive)
}

// drain stops the server, without a time limit for open streams, and then the client.
func (s *metricScenario) drain(t *testing.T) {
	s.observed.server.signal(t, syscall.SIGTERM)
	s.server.await(t, "adit_draining", positive)
	s.server.await(t, "adit_ready", zero)
	if status, text := get(t, s.observed.admin, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "stopping") {
		t.Errorf("/readyz of a draining server: %d %q", status, text)
	}
	s.near.Close()
	s.far.Close()
	s.client.await(t, "adit_sessions_ended_total", positive)
	s.client.await(t, "adit_link_up", zero)
	s.observed.server.stopped = true
	<-s.observed.server.done
	s.cl.stop(t)
}

// checkDocument compares the metrics and their changes with docs/metrics.md.
func (s *metricScenario) checkDocument(t *testing.T) {
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
		{both, s.both(), []string{"adit_build_info"}},
		{ofServer, []*metricHistory{s.server}, []string{"adit_audit_records_lost_total"}},
		{ofClient, []*metricHistory{s.client}, nil},
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
	for _, b := range s.both() {
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
