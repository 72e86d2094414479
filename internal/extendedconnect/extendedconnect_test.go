// The tests are an external package: otherwise the package under test would
// depend on net/http and be initialized after it.
package extendedconnect_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/net/http2"

	_ "adit/internal/extendedconnect"
)

// The server's first SETTINGS frame shows whether net/http saw the variable.
func TestNetHTTPAcceptsExtendedConnect(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()

	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	f := http2.NewFramer(c, c)
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := frame.(*http2.SettingsFrame)
		if !ok || settings.IsAck() {
			continue
		}
		if v, ok := settings.Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
			t.Fatalf("SETTINGS_ENABLE_CONNECT_PROTOCOL is %d, %v", v, ok)
		}
		return
	}
}

// An operator's setting is kept. The setting is read once, at the start of a
// process, so this test starts processes.
func TestGODEBUG(t *testing.T) {
	if os.Getenv("SHOW_GODEBUG") != "" {
		fmt.Print(os.Getenv("GODEBUG"))
		os.Exit(0)
	}
	for _, test := range [][2]string{
		{"", "http2xconnect=1"},
		{"netdns=go", "netdns=go,http2xconnect=1"},
		{"http2xconnect=0,netdns=go", "http2xconnect=0,netdns=go"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGODEBUG$")
		cmd.Env = append(os.Environ(), "SHOW_GODEBUG=1", "GODEBUG="+test[0])
		out, err := cmd.Output()
		if err != nil || string(out) != test[1] {
			t.Errorf("%q: %q, %v, want %q", test[0], out, err, test[1])
		}
	}
}
