package dial

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"adit/internal/testnet"
	"adit/tunnel/ws"
)

// A front on this machine may listen on a unix socket. TLS and HTTP use the URL's name, and no proxy is asked.
func TestDialConnectsToUnixSocket(t *testing.T) {
	ca := testnet.NewCA(t, "Test CA")
	path := filepath.Join(t.TempDir(), "front.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hosts := make(chan string, 1)
	ln = tls.NewListener(ln, ca.ServerConfig(t, "gw.example.com"))
	serveHTTP(t, ln, path, func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		c, err := ws.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			op, err := c.NextMessage()
			if err != nil {
				return
			}
			b, err := io.ReadAll(c)
			if err != nil || c.WriteMessage(op, b) != nil {
				return
			}
		}
	})
	var steps []string
	c, err := Dial(dialCtx(t), "wss://gw.example.com/tunnel", &Options{
		ConnectTo: "unix:" + path,
		TLS:       &tls.Config{RootCAs: ca.Pool()},
		Proxy:     always(&url.URL{Scheme: "http", Host: testnet.RefusedAddr(t)}),
		Trace:     func(e Event) { steps = append(steps, string(e.Step)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if host := <-hosts; host != "gw.example.com" {
		t.Errorf("Host %q", host)
	}
	checkEcho(t, c)
	if got := strings.Join(steps, " "); got != "configuration socket TLS upgrade" {
		t.Errorf("steps %s", got)
	}
}

func TestDialUnixSocketFailures(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	for connectTo, want := range map[string]string{
		"unix:" + none: "socket to unix:" + none + ": no such file or directory",
		"unix:":        "configuration",
	} {
		_, err := Dial(dialCtx(t), "ws://gw.example.com", &Options{ConnectTo: connectTo})
		var serr *Error
		if !errors.As(err, &serr) || !strings.HasPrefix(err.Error(), want) || serr.Hint() == "" {
			t.Errorf("%s: %v", connectTo, err)
		}
	}
}
