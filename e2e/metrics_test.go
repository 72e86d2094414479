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
	server, client := newMetricHistory(w.admin), newMetricHistory("unix:"+socket)
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
