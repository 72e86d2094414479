package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adit/admin"
	"adit/client"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/testnet"
	"adit/tunnel/dial"
)

func TestLoggerFollowsItsLevel(t *testing.T) {
	for format, want := range map[string]string{"text": "msg=shown", "json": `"msg":"shown"`} {
		var out bytes.Buffer
		log, level := NewLogger(config.Log{Level: slog.LevelWarn, Format: format}, &out)
		log.Info("hidden")
		level.Set(slog.LevelInfo)
		log.Info("shown")
		if text := out.String(); !strings.Contains(text, want) || strings.Contains(text, "hidden") {
			t.Errorf("%s: %q", format, text)
		}
	}
}

// A duration in a JSON log has its unit.
func TestJSONDurationsHaveUnits(t *testing.T) {
	var out bytes.Buffer
	log, _ := NewLogger(config.Log{Format: "json"}, &out)
	log.With("after", 1500*time.Millisecond).Info("m", "retry", 2*time.Minute, slog.Group("g", "rtt", time.Microsecond))
	for _, want := range []string{`"after":"1.5s"`, `"retry":"2m0s"`, `"rtt":"1µs"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, &out)
		}
	}
}

// Without a configured format a terminal gets short lines, and a file key=value.
func TestAutomaticLogFormat(t *testing.T) {
	var file bytes.Buffer
	log, _ := NewLogger(config.Log{Format: "auto"}, &file)
	log.Warn("m", "hint", "h")
	if !strings.Contains(file.String(), "level=WARN msg=m hint=h\n") {
		t.Errorf("a file gets %q", &file)
	}
	tty := testnet.Terminal(t)
	log, _ = NewLogger(config.Log{Format: "auto"}, tty)
	if _, short := log.Handler().(*slog.TextHandler); short {
		t.Error("a terminal gets key=value")
	}
}

func TestSocketsHaveOneOwner(t *testing.T) {
	web, ssh := testnet.Listen(t), testnet.Listen(t)
	s := Sockets{"web": {web}, "ssh": {ssh}}
	got, err := s.Listen([]config.Address{{Network: "systemd", Address: "web"}}, SocketFile{})
	if err != nil || len(got) != 1 || got[0] != web {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := s.Take("web"); err == nil || !strings.Contains(hint.Of(err), "handed over ssh") {
		t.Errorf("taken twice: %v, hint %q", err, hint.Of(err))
	}
	var out bytes.Buffer
	s.CloseUnused(slog.New(slog.NewTextHandler(&out, nil)))
	if !strings.Contains(out.String(), "name=ssh") || strings.Contains(out.String(), "name=web") {
		t.Errorf("the log of unused sockets: %s", &out)
	}
	if _, err := ssh.Accept(); err == nil {
		t.Error("an unused socket stays open")
	}
	if _, err := s.Take("ssh"); err == nil || !strings.Contains(hint.Of(err), "FileDescriptorName=") {
		t.Errorf("without any: %v, hint %q", err, hint.Of(err))
	}
}

func TestListenOpensAllOrNone(t *testing.T) {
	used := testnet.Listen(t).Addr().String()
	path := filepath.Join(t.TempDir(), "adit.sock")
	_, err := Sockets{}.Listen([]config.Address{{Network: "unix", Address: path}, {Network: "tcp", Address: used}}, SocketFile{})
	if err == nil || !strings.Contains(err.Error(), "listen on "+used) || !strings.Contains(hint.Of(err), "ss -ltnp") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the first listener stays open")
	}
}

func TestAdminAddress(t *testing.T) {
	c, err := client.New(client.Config{Servers: []string{"wss://gw.example.com/tunnel"}, Dial: &dial.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	runtime := t.TempDir()
	used := testnet.Listen(t).Addr().String()
	for _, tt := range []struct {
		name      string
		listen    config.Address
		directory string
		network   string // where it then listens; "" for nowhere
		address   string
		fails     bool
	}{
		{"neither", config.Address{}, "", "", "", false},
		{"switched off", config.Address{Network: "none"}, runtime, "", "", false},
		{"of systemd", config.Address{}, runtime + ":/elsewhere", "unix", filepath.Join(runtime, "admin.sock"), false},
		{"not possible, not asked for", config.Address{}, filepath.Join(runtime, "missing"), "", "", false},
		{"not possible, asked for", config.Address{Network: "tcp", Address: used}, "", "", "", true},
		{"configured", config.Address{Network: "unix", Address: filepath.Join(runtime, "own.sock")}, runtime, "unix", filepath.Join(runtime, "own.sock"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			stop, err := StartAdmin(config.Admin{Listen: tt.listen}, tt.directory, admin.Config{Client: c, Version: "1"}, log)
			if tt.fails {
				if err == nil || hint.Of(err) == "" {
					t.Errorf("%v, hint %q", err, hint.Of(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.network != "" {
				conn, err := net.Dial(tt.network, tt.address)
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			stop()
			if _, err := os.Stat(filepath.Join(runtime, "admin.sock")); err == nil {
				t.Error("a socket is left")
			}
		})
	}
}

// The metrics address has metrics, health and readiness for any host name, and
// nothing else.
func TestMetricsAddress(t *testing.T) {
	c, err := client.New(client.Config{Servers: []string{"wss://gw.example.com/tunnel"}, Dial: &dial.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	what := admin.Config{Client: c, Version: "1", Pprof: true, HealthTimeout: time.Millisecond} // the client does not run
	if stop, err := StartMetrics(config.Metrics{}, what, log); err != nil {
		t.Fatal(err)
	} else {
		stop()
	}
	path := filepath.Join(t.TempDir(), "metrics.sock")
	stop, err := StartMetrics(config.Metrics{Listen: config.Address{Network: "unix", Address: path}}, what, log)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	defer transport.CloseIdleConnections()
	for url, want := range map[string]int{"metrics": 200, "healthz": 503, "readyz": 503, "status": 404, "": 404, "debug/pprof/": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://scraped.example/"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != want {
			t.Errorf("/%s: %d, want %d", url, reply.StatusCode, want)
		}
	}
	if _, err := StartMetrics(config.Metrics{Listen: config.Address{Network: "tcp", Address: testnet.Listen(t).Addr().String()}}, what, log); err == nil || hint.Of(err) == "" {
		t.Errorf("an address in use: %v, hint %q", err, hint.Of(err))
	}
}
