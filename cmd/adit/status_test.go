package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel"
)

// lines is a standard output. Tests wait for its lines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// all returns the complete lines so far.
func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := strings.Split(l.text.String(), "\n")
	return list[:len(list)-1]
}

func (l *lines) wait(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(l.all()) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d lines", len(l.all()))
		}
	}
}

// adit status shows a server and a client, over unix sockets that only their owner can use.
func TestStatusOfBothEnds(t *testing.T) {
	sockets := t.TempDir()
	serverSocket, clientSocket := filepath.Join(sockets, "server.sock"), filepath.Join(sockets, "client.sock")
	// A socket that a crash left behind is replaced.
	left, err := tunnel.ListenUnix(serverSocket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	g := newGateway(t, "--admin-listen", "unix:"+serverSocket)
	g.wait(`msg="admin address" addr=unix:` + regexp.QuoteMeta(serverSocket))
	c := start(t, adit(t, g.clientArgs("client", "-L", "127.0.0.1:0:echo", "--admin-listen", clientSocket)...))
	addr := c.wait(`msg=listening .*addr=(127\.\S+)`)[1]
	c.wait(`msg="link up"`)
	if err := echoes(addr); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{serverSocket, clientSocket} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
	}
	for path, want := range map[string][]string{
		serverSocket: {`^adit server \S+, up .*, ready \(unix:`, `(?m)^now +1 session, `, `(?m)^total +1 session, 1 stream, `, `(?m)^USER +FROM +STREAMS`, `(?m)^alice +127\.0\.0\.1:\d+ +\d `, `certificate +\S+ expires in`},
		clientSocket: {`^adit client \S+, up .*, ready \(unix:`, `(?m)^link +up for .*, to wss://127`, `(?m)^wss://\S+ +127\.0\.0\.1:\d+ +\d `, `(?m)^` + regexp.QuoteMeta(addr) + ` +echo +\d+ +1 `},
	} {
		out, errs, status := output(t, adit(t, "status", "--admin", path), "")
		if status != 0 || errs != "" {
			t.Errorf("status %d, stderr %q", status, errs)
		}
		for _, pattern := range want {
			if !regexp.MustCompile(pattern).MatchString(out) {
				t.Errorf("no %q in\n%s", pattern, out)
			}
		}
		out, _, status = output(t, adit(t, "status", "--json", "--admin", "unix:"+path), "")
		if status != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, "\n  \"sessions\": [\n") {
			t.Errorf("status %d, not indented JSON:\n%s", status, out)
		}
	}

	// With --watch it prints a document per line until it is stopped.
	cmd := adit(t, "status", "--admin", serverSocket, "--watch", "--interval", "100ms", "--json")
	var followed lines
	cmd.Stdout = &followed
	r := start(t, cmd)
	followed.wait(t, 3)
	r.signal(syscall.SIGTERM)
	<-r.done
	for _, line := range followed.all() {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a JSON document: %q", line)
		}
	}

	g.signal(syscall.SIGTERM)
	g.ends(0)
	if _, err := os.Stat(serverSocket); err == nil {
		t.Error("the socket outlives the server")
	}
	_, errs, status := output(t, adit(t, "status", "--admin", serverSocket), "")
	if status != 1 || !strings.Contains(errs, "ask unix:"+serverSocket) || !strings.Contains(errs, "hint: is it running?") {
		t.Errorf("status %d, stderr %q", status, errs)
	}
	out, _, _ := output(t, adit(t, "status", "--admin", clientSocket), "")
	if !strings.Contains(out, "NOT READY: ") || !strings.Contains(out, "down for ") {
		t.Errorf("a client without its server:\n%s", out)
	}
}

// A service that systemd started has an admin socket without being configured.
func TestStatusInTheRuntimeDirectory(t *testing.T) {
	dir := t.TempDir()
	g := &gatewayFixture{dir: t.TempDir(), echo: testnet.Echo(t)}
	cmd := adit(t, "server", "--listen", "127.0.0.1:0", "--self-signed", filepath.Join(g.dir, "tls"), "--allow-anonymous", g.echo)
	cmd.Env = append(cmd.Env, "RUNTIME_DIRECTORY="+dir)
	r := start(t, cmd)
	r.wait(`msg=listening`)
	out, errs, status := output(t, adit(t, "status", "--admin", filepath.Join(dir, "admin.sock")), "")
	if status != 0 || !strings.Contains(out, "adit server") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errs)
	}
	// A second service cannot use the same socket. It runs without one, unless the socket is configured.
	cmd = adit(t, "server", "--listen", "127.0.0.1:0", "--self-signed", filepath.Join(g.dir, "tls"), "--allow-anonymous", g.echo)
	cmd.Env = append(cmd.Env, "RUNTIME_DIRECTORY="+dir)
	second := start(t, cmd)
	second.wait(`msg="admin address unavailable"`)
	second.wait(`msg=listening`)
	_, errs, status = output(t, adit(t, "server", "--listen", "127.0.0.1:0", "--self-signed", filepath.Join(g.dir, "tls"), "--allow-anonymous", g.echo, "--admin-listen", filepath.Join(dir, "admin.sock")), "")
	if status != 1 || !strings.Contains(errs, "hint: another adit has this socket") {
		t.Errorf("status %d, stderr %q", status, errs)
	}
}
