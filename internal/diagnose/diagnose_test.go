package diagnose

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"adit/internal/hint"
	"adit/internal/testnet"
	"adit/mux"
	"adit/server"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// startServer runs a server where everyone may reach echo, and returns its URL.
func startServer(t *testing.T, echo string) string {
	t.Helper()
	s, err := server.New(server.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}, server.Access{Anonymous: []string{echo}})
	if err != nil {
		t.Fatal(err)
	}
	ln := testnet.Listen(t)
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(ln, nil) }()
	t.Cleanup(func() { s.Shutdown(t.Context()); <-served })
	return "ws://" + ln.Addr().String() + "/tunnel"
}

func TestCheckPrintsEveryHop(t *testing.T) {
	echo := testnet.Echo(t)
	var out bytes.Buffer
	c := Check{
		Out: &out, Dial: &dial.Options{}, ConfigFile: "client.toml", Warnings: []string{"something odd"}, Timeout: time.Minute,
		Targets: []mux.Target{{Kind: mux.TCP, Address: echo}},
	}
	if err := c.Run(t.Context(), []string{startServer(t, echo)}); err != nil {
		t.Error(err)
	}
	hops := `(?s)^- warning .*something odd\n✓ configuration .*client\.toml\n✓ TCP .*\n✓ upgrade .*\n✓ authentication .*\n✓ policy .*\n✓ target .*\n✓ round trip .*\n- throughput .*not measured`
	if !regexp.MustCompile(hops).MatchString(out.String()) {
		t.Errorf("it prints\n%s", &out)
	}
}

func TestCheckEndsAtTheFirstFailure(t *testing.T) {
	echo := testnet.Echo(t)
	good := startServer(t, echo)
	for _, tt := range []struct {
		name    string
		servers []string
		target  string
		says    string
	}{
		{"TCP", []string{"ws://" + testnet.RefusedAddr(t), good}, "", `✗ TCP .*refused.*\n +hint: `},
		{"upgrade", []string{strings.Replace(good, "/tunnel", "/else", 1)}, "", `✗ upgrade .*404.*\n +hint: `},
		{"policy", []string{good}, "10.0.0.1:1", `✗ policy .*10\.0\.0\.1:1.*\n +hint: .*allow`},
	} {
		var out bytes.Buffer
		c := Check{Out: &out, Dial: &dial.Options{}, Timeout: time.Minute}
		if tt.target != "" {
			c.Targets = []mux.Target{{Kind: mux.TCP, Address: tt.target}}
		}
		if err := c.Run(t.Context(), tt.servers); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
		if text := out.String(); !regexp.MustCompile(tt.says).MatchString(text) || strings.Count(text, "✗") != 1 {
			t.Errorf("%s: it prints\n%s", tt.name, text)
		}
	}
}

// The target is not to blame for the server's resolver.
func TestRefusalHintNamesTheServersResolver(t *testing.T) {
	for _, code := range []mux.Code{mux.Timeout, mux.Failed} {
		err := ExplainRefusal(&mux.RefusedError{Code: code, Reason: "the server's name resolution did not answer in time"})
		if !strings.Contains(hint.Of(err), "the server's resolver") {
			t.Errorf("%v: hint %q", err, hint.Of(err))
		}
	}
}

// A route's backend may send back all that it gets, a hello too.
func TestCheckOfARouteToAnEchoService(t *testing.T) {
	var out bytes.Buffer
	c := Check{Out: &out, Dial: &dial.Options{}, Timeout: time.Minute}
	ln := testnet.Listen(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			op, err := conn.NextMessage()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(conn)
			conn.WriteMessage(op, b)
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-served })
	err := c.Run(t.Context(), []string{"ws://" + ln.Addr().String() + "/echo"})
	if text := out.String(); err == nil || !regexp.MustCompile(`✗ authentication .*route to an echo service.*\n +hint: .*/tunnel`).MatchString(text) {
		t.Errorf("%v, it prints\n%s", err, text)
	}
}

func TestCheckTestsEveryServer(t *testing.T) {
	good := startServer(t, testnet.Echo(t))
	bad := "ws://" + testnet.RefusedAddr(t)
	for _, servers := range [][]string{{bad, good}, {good, bad}} {
		var out bytes.Buffer
		c := Check{Out: &out, Dial: &dial.Options{}, Timeout: time.Minute, Ignored: []string{"--link-wait"}}
		err := c.Run(t.Context(), servers)
		text := out.String()
		if err == nil || !strings.Contains(text, "✗ TCP") || !strings.Contains(text, "✓ round trip") || !regexp.MustCompile(`- ignored .*--link-wait: no effect`).MatchString(text) {
			t.Errorf("%v, it prints\n%s", err, text)
		}
	}
}

func TestThroughputSaysThatTheTargetClosed(t *testing.T) {
	target := testnet.Serve(t, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		c.(*net.TCPConn).SetLinger(0)
	})
	var out bytes.Buffer
	c := Check{Out: &out, Dial: &dial.Options{}, Timeout: time.Minute, Throughput: &mux.Target{Kind: mux.TCP, Address: target}}
	err := c.Run(t.Context(), []string{startServer(t, target)})
	text := out.String()
	if err == nil || !regexp.MustCompile(`✗ throughput .*the target `+target+` closed the connection after .*\n +hint: .*take any data`).MatchString(text) || strings.Contains(text, "reset") {
		t.Errorf("%v, it prints\n%s", err, text)
	}
}

func TestExplainRefusal(t *testing.T) {
	for _, code := range []mux.Code{mux.Forbidden, mux.Refused, mux.Unreachable, mux.Timeout, mux.NotFound, mux.Busy, mux.GoingAway, mux.Code(99)} {
		err := ExplainRefusal(&mux.RefusedError{Code: code})
		var refused *mux.RefusedError
		if hint.Of(err) == "" || !errors.As(err, &refused) {
			t.Errorf("%v: hint %q", err, hint.Of(err))
		}
	}
	other := errors.New("x")
	if err := ExplainRefusal(other); err != other || ExplainRefusal(nil) != nil {
		t.Errorf("%v", err)
	}
}
