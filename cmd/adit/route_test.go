package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"adit/auth"
	"adit/certs"
	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// routeFixture is a running server without any user, reached over plain HTTP.
type routeFixture struct {
	*process
	addr string
}

func newRoutes(t *testing.T, args ...string) *routeFixture {
	t.Helper()
	r := &routeFixture{process: start(t, adit(t, append([]string{"server", "--no-tls", "--listen", "127.0.0.1:0"}, args...)...))}
	r.addr = r.wait(`msg=listening addr=(\S+)`)[1]
	return r
}

// dial opens a WebSocket with a header "Name: value", or "" for none.
func (r *routeFixture) dial(path, header string) (*ws.Conn, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := http.Header{}
	if name, value, ok := strings.Cut(header, ": "); ok {
		h.Set(name, value)
	}
	c, err := dial.Dial(ctx, "ws://"+r.addr+path, &dial.Options{Header: h})
	if err == nil {
		c.NetConn().SetDeadline(time.Now().Add(patience))
		r.t.Cleanup(func() { c.CloseNow() })
	}
	return c, err
}

// echoes sends a message and expects its bytes back, in messages of the same type.
func (r *routeFixture) echoes(path, header string, op ws.Opcode, text string) {
	r.t.Helper()
	c, err := r.dial(path, header)
	if err != nil {
		r.t.Errorf("%s: %v", path, err)
		return
	}
	if err := c.WriteMessage(op, []byte(text)); err != nil {
		r.t.Error(err)
	}
	var got bytes.Buffer
	for got.Len() < len(text) {
		gotOp, err := c.NextMessage()
		if err != nil {
			r.t.Errorf("%s: %v", path, err)
			return
		}
		if gotOp != op {
			r.t.Errorf("%s: opcode %d, want %d", path, gotOp, op)
		}
		if _, err := io.Copy(&got, c); err != nil {
			r.t.Errorf("%s: %v", path, err)
			return
		}
	}
	if got.String() != text {
		r.t.Errorf("%s: %q", path, got.String())
	}
	if err := c.Close(ws.StatusNormal, ""); err != nil {
		r.t.Errorf("%s: close: %v", path, err)
	}
}

func (r *routeFixture) refuses(path, header string, status string) {
	r.t.Helper()
	c, err := r.dial(path, header)
	if err == nil {
		c.CloseNow()
		r.t.Errorf("%s %s: accepted", path, header)
		return
	}
	if !strings.Contains(err.Error(), status) {
		r.t.Errorf("%s %s: %v, want %s", path, header, err, status)
	}
}

// page returns the status and the body of a page of the site.
func (r *routeFixture) page(path string) (int, string) {
	r.t.Helper()
	resp, err := http.Get("http://" + r.addr + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRouteTypesAndOrigins(t *testing.T) {
	echo := testnet.Echo(t)
	r := newRoutes(t,
		"--route", "/bin="+echo,
		"--route", "/text="+echo+"?frame-type=text",
		"--route", "/json="+echo+"?frame-type=text&origins=https://app.example,https://*.sub.example",
		"--route", "/dead="+testnet.RefusedAddr(t))
	for _, path := range []string{"/bin", "/text", "/json", "/dead"} {
		r.wait(`level=WARN msg="routes are open to everyone" count=4 routes=.*` + path + `=`)
	}
	r.echoes("/bin", "", ws.OpBinary, "\x00\xff bytes")
	r.echoes("/bin/below", "", ws.OpBinary, "bytes")
	r.echoes("/text", "", ws.OpText, "größer")
	r.echoes("/text", "Origin: http://"+r.addr, ws.OpText, "from a page of the same host")
	r.refuses("/text", "Origin: https://evil.example", "403")
	r.echoes("/json", "Origin: https://app.example", ws.OpText, "{}")
	r.echoes("/json", "Origin: https://a.sub.example", ws.OpText, "{}")
	r.refuses("/json", "Origin: https://app.example.evil", "403")
	r.refuses("/json", "Origin: http://app.example", "403")
	r.refuses("/json", "", "403")
	r.refuses("/dead", "", "502")
	r.refuses("/binary", "", "404")
	r.signal(syscall.SIGTERM)
	r.ends(0)
}

func TestRouteUsers(t *testing.T) {
	token := auth.NewToken()
	file := filepath.Join(t.TempDir(), "server.toml")
	content := fmt.Sprintf("[[user]]\nname = \"alice\"\ntoken-hash = %q\n[[route]]\npath = \"/mine\"\nbackend = %q\nusers = [\"alice\"]\n", auth.HashToken(token), testnet.Echo(t))
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRoutes(t, "--config", file, "--demo-page", "/console")
	r.echoes("/mine", "Authorization: Bearer "+token, ws.OpBinary, "x")
	r.echoes("/mine", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("alice:"+token)), ws.OpBinary, "x")
	r.refuses("/mine", "", "404")
	r.refuses("/mine", "Authorization: Bearer "+auth.NewToken(), "404")
	// The public page does not name a route that needs credentials.
	if status, body := r.page("/console/"); status != 200 || strings.Contains(body, "/mine") {
		t.Errorf("status %d\n%s", status, body)
	}
	for _, line := range r.log() {
		if strings.Contains(line, token) || strings.Contains(line, "is open to everyone") {
			t.Error(line)
		}
	}
}

// A reload adds and removes routes and replaces the site. Open connections stay.
func TestReloadRoutesAndSite(t *testing.T) {
	echo := testnet.Echo(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "server.toml")
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	route := func(path string) string {
		return fmt.Sprintf("[[route]]\npath = %q\nbackend = %q\n", path, echo)
	}
	write("index.html", "from a directory")
	write("server.toml", "demo-page = \"/console\"\n"+route("/a")+fmt.Sprintf("[site]\nroot = %q\n", dir))
	r := newRoutes(t, "--config", file)
	r.echoes("/a", "", ws.OpBinary, "x")
	r.refuses("/b", "", "404")
	if _, body := r.page("/"); body != "from a directory" {
		t.Error(body)
	}
	if status, body := r.page("/console/"); status != 200 || !strings.Contains(body, ">/a<") {
		t.Errorf("status %d\n%s", status, body)
	}
	old, err := r.dial("/a", "")
	if err != nil {
		t.Fatal(err)
	}

	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "from "+req.URL.Path)
	}))
	defer site.Close()
	write("server.toml", route("/b")+"frame-type = \"texty\"\n")
	r.signal(syscall.SIGHUP)
	r.wait(`reload failed.*server.toml:4: route.frame-type`)
	r.refuses("/b", "", "404")

	write("server.toml", "trusted-proxies = [\"127.0.0.1\"]\n"+route("/b")+fmt.Sprintf("[site]\nproxy = %q\n", site.URL))
	r.signal(syscall.SIGHUP)
	r.wait(`msg=reloaded users=0 targets=0 routes=1`)
	r.echoes("/b", "", ws.OpBinary, "x")
	r.refuses("/a", "", "200") // the site's own answer
	if _, body := r.page("/console/"); body != "from /console/" {
		t.Error(body)
	}
	if err := old.WriteMessage(ws.OpBinary, []byte("still there")); err != nil {
		t.Error(err)
	}
	if _, err := old.NextMessage(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(old); string(got) != "still there" {
		t.Errorf("%q, %v", got, err)
	}

	// A configuration that lets nobody in is a fault.
	write("server.toml", "")
	r.signal(syscall.SIGHUP)
	r.wait(`reload failed.*nobody may use the tunnel`)
	r.echoes("/b", "", ws.OpBinary, "x")
}

// HTTP/2 is offered only if there are routes.
func TestHTTP2OnlyWithRoutes(t *testing.T) {
	for _, with := range []bool{false, true} {
		dir := t.TempDir()
		args := []string{"server", "--listen", "127.0.0.1:0", "--self-signed", dir, "--allow-anonymous", "127.0.0.1:1"}
		if with {
			args = append(args, "--route", "/a=127.0.0.1:1")
		}
		s := start(t, adit(t, args...))
		addr := s.wait(`msg=listening addr=(\S+)`)[1]
		pool, err := certs.LoadPool(filepath.Join(dir, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		got := c.ConnectionState().NegotiatedProtocol
		c.Close()
		if want := map[bool]string{false: "http/1.1", true: "h2"}[with]; got != want {
			t.Errorf("with routes %v: %q", with, got)
		}
	}
}

func TestSiteNeedsNoDescriptorPerReload(t *testing.T) {
	dir := t.TempDir()
	r := newRoutes(t, "--route", "/a=127.0.0.1:1", "--site", dir)
	count := func() int {
		t.Helper()
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	before := count()
	for i := 1; i <= 5; i++ {
		r.signal(syscall.SIGHUP)
		r.waitTimes(`msg=reloaded`, i)
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, before 5 reloads %d", after, before)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, body := r.page("/"); body != "new" {
		t.Error(body)
	}
}
