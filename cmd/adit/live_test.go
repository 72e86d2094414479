package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"adit/auth"
	"adit/certs"
	"adit/internal/testnet"
)

func TestCheckNamesFlagsWithoutEffect(t *testing.T) {
	out, _, status := output(t, adit(t, "check", "--proxy", "none", "--link-wait", "3s", "--server-order", "random", "wss://"+testnet.RefusedAddr(t)), "")
	if status != 1 || !strings.Contains(out, "--server-order, --link-wait: no effect on a check") {
		t.Errorf("status %d, it prints\n%s", status, out)
	}
}

// gatewayFixture is a running server with one user and an echo backend.
type gatewayFixture struct {
	*process
	dir, url, pin, users, tokenFile, echo string
}

func newGateway(t *testing.T, args ...string) *gatewayFixture {
	t.Helper()
	g := &gatewayFixture{dir: t.TempDir(), echo: testnet.Echo(t)}
	token := auth.NewToken()
	g.tokenFile = g.write("token", token+"\n")
	g.users = g.write("users.toml", g.usersTOML("alice", token))
	g.process = start(t, adit(t, append([]string{"server", "--listen", "127.0.0.1:0", "--self-signed", filepath.Join(g.dir, "tls"), "--users", g.users}, args...)...))
	g.pin = g.wait(`pin="?(sha256:[^" ]+)`)[1]
	g.url = "wss://" + g.wait(`msg=listening addr=(\S+)`)[1] + "/tunnel"
	return g
}

func (g *gatewayFixture) write(name, content string) string {
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		panic(err)
	}
	return path
}

// usersTOML returns a users file with one user, who may reach the echo backend.
func (g *gatewayFixture) usersTOML(name, token string) string {
	return fmt.Sprintf("[[user]]\nname = %q\ntoken-hash = %q\nallow = [\"echo\"]\n[[target]]\nname = \"echo\"\naddress = %q\n", name, auth.HashToken(token), g.echo)
}

// clientArgs returns the arguments of a client of this server.
func (g *gatewayFixture) clientArgs(command string, args ...string) []string {
	return append([]string{command, "--proxy", "none", "--pin", g.pin, "--token-file", g.tokenFile}, append(args, g.url)...)
}

func TestForwardAndStop(t *testing.T) {
	g := newGateway(t)
	socket := filepath.Join(g.dir, "local.sock")
	c := start(t, adit(t, g.clientArgs("client", "-L", "127.0.0.1:0:echo", "-L", socket+":echo")...))
	addr := c.wait(`msg=listening .*addr=(127\.\S+)`)[1]
	c.wait(`msg="link up"`)
	if err := echoes(addr); err != nil {
		t.Error(err)
	}
	if l, err := net.Dial("unix", socket); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
	c.signal(syscall.SIGHUP)
	c.wait(`msg="probing the link"`)
	c.signal(syscall.SIGTERM)
	c.ends(0)
	g.signal(syscall.SIGTERM)
	g.ends(0)
	g.wait(`msg=stopped`)
}

func TestStdio(t *testing.T) {
	g := newGateway(t)
	out, errs, status := output(t, adit(t, g.clientArgs("client", "-W", "echo")...), "by way of stdio")
	if out != "by way of stdio" || status != 0 || errs != "" {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errs)
	}
	_, errs, status = output(t, adit(t, g.clientArgs("client", "-W", "10.0.0.1:1")...), "")
	if status != 1 || !strings.Contains(errs, "forbidden") || !strings.Contains(errs, "hint: the server's policy") {
		t.Errorf("status %d, stderr %q", status, errs)
	}
	g.write("token", "wrong")
	_, errs, status = output(t, adit(t, g.clientArgs("client", "-W", "echo")...), "")
	if status != 1 || !strings.Contains(errs, "404") || !strings.Contains(errs, "hint: ") {
		t.Errorf("status %d, stderr %q", status, errs)
	}
}

func TestCheck(t *testing.T) {
	g := newGateway(t)
	out, errs, status := output(t, adit(t, g.clientArgs("check", "-L", "1:echo", "--throughput", "echo")...), "")
	if status != 0 {
		t.Errorf("status %d, stderr %q", status, errs)
	}
	next := 0
	for _, hop := range []string{"✓ configuration", "✓ TCP", "✓ TLS", "TLS 1.3", "issued by", "pin " + g.pin, "✓ upgrade", "✓ authentication", "✓ policy", "✓ target", "✓ round trip", "✓ throughput", "MiB/s"} {
		i := strings.Index(out[next:], hop)
		if i < 0 {
			t.Fatalf("no %q, or not in this order, in\n%s", hop, out)
		}
		next += i
	}

	// The first failure ends the check, with a hint.
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"--target", "10.0.0.1:1"}, `✗ policy .*10\.0\.0\.1:1.*\n +hint: .*allow`},
		{[]string{"--target", "nobody"}, `✗ policy .*nobody.*\n +hint: .*allow`},
		{[]string{"--pin", "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, `✓ TLS`}, // one of two pins is enough
		{[]string{"--ca", filepath.Join(g.dir, "tls", "key.pem")}, ``},
		{[]string{"--connect-to", testnet.RefusedAddr(t)}, `✗ TCP .*refused.*\n +hint: `},
		{[]string{"--connect-to", testnet.Reply(t, "220 ready\r\n")}, `✗ TLS .*\n +hint: `},
		{[]string{"--proxy", "http://" + testnet.RefusedAddr(t)}, `✗ (TCP|proxy) .*refused.*\n +hint: `},
	} {
		args := g.clientArgs("check", tt.args...)
		out, errs, status := output(t, adit(t, args...), "")
		if !regexp.MustCompile(tt.says).MatchString(out) {
			t.Errorf("%q: stdout\n%s\nstderr\n%s", tt.args, out, errs)
		}
		if crosses := strings.Count(out, "✗"); crosses > 1 || (crosses == 1) != (status == 1) {
			t.Errorf("%q: %d crosses, status %d", tt.args, crosses, status)
		}
	}
}

func TestExitOnRefusal(t *testing.T) {
	g := newGateway(t)
	g.write("token", "wrong")
	c := start(t, adit(t, g.clientArgs("client", "--exit-on-refusal", "-L", "127.0.0.1:0:echo")...))
	c.ends(1)
	c.wait(`hint: the path or the token`)
}

func TestServerReload(t *testing.T) {
	g := newGateway(t)
	// An invalid file changes nothing, and the log names every fault.
	good, err := os.ReadFile(g.users)
	if err != nil {
		t.Fatal(err)
	}
	g.write("users.toml", string(good)+"[[user]]\nname = \"bob\"\ntoken-hash = \"x\"\nallow = [\"nowhere\"]\n")
	g.signal(syscall.SIGHUP)
	g.wait(`reload failed.*users.toml:\d+: user.token-hash`)
	g.wait(`reload failed.*no target named`)
	if out, errs, status := output(t, adit(t, g.clientArgs("check")...), ""); status != 0 {
		t.Errorf("after a failed reload:\n%s%s", out, errs)
	}
	// A valid one, with another token and another certificate.
	token := auth.NewToken()
	g.write("users.toml", g.usersTOML("bob", token))
	if err := os.RemoveAll(filepath.Join(g.dir, "tls")); err != nil {
		t.Fatal(err)
	}
	g.signal(syscall.SIGHUP)
	g.wait(`msg=reloaded users=1 targets=1 routes=0`)
	out, _, status := output(t, adit(t, g.clientArgs("check")...), "")
	if status != 1 || !strings.Contains(out, "✗ TLS") {
		t.Errorf("the old pin is accepted:\n%s", out)
	}
	cert, _, err := certs.SelfSigned(filepath.Join(g.dir, "tls"), nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pin = certs.PinOf(cert.Leaf()).String()
	out, _, status = output(t, adit(t, g.clientArgs("check")...), "")
	if status != 1 || !strings.Contains(out, "✗ upgrade") {
		t.Errorf("the old token is accepted:\n%s", out)
	}
	g.write("token", token)
	if out, errs, status := output(t, adit(t, g.clientArgs("check", "--target", "echo")...), ""); status != 0 {
		t.Errorf("after a reload:\n%s%s", out, errs)
	}
}

// An open stream delays the end of the server; a second signal ends it at once.
func TestDrainAndSecondSignal(t *testing.T) {
	g := newGateway(t, "--drain-timeout", "1h")
	c := start(t, adit(t, g.clientArgs("client", "-L", "127.0.0.1:0:echo")...))
	conn, err := net.Dial("tcp", c.wait(`msg=listening .*addr=(\S+)`)[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 1)
	exchange := func() {
		t.Helper()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	g.signal(syscall.SIGTERM)
	g.wait(`msg=stopping`)
	exchange()
	g.signal(syscall.SIGTERM) // in the same second: the same request
	time.Sleep(secondStopAfter + 200*time.Millisecond)
	exchange()
	g.signal(syscall.SIGTERM)
	g.ends(1)
}

// systemd is notified of the start, of reloads and of the stop.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	manager.SetDeadline(time.Now().Add(patience))
	expect := func(want string) {
		t.Helper()
		for {
			b := make([]byte, 4096)
			n, err := manager.Read(b)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	cmd := adit(t, "server", "--no-tls", "--listen", "127.0.0.1:0", "--allow-anonymous", "127.0.0.1:22")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	s := start(t, cmd)
	expect("READY=1")
	s.wait(`target is open to everyone.*127.0.0.1:22`)
	s.signal(syscall.SIGHUP)
	expect("RELOADING=1")
	expect("READY=1")
	s.signal(syscall.SIGINT)
	expect("STOPPING=1")
	s.ends(0)

	cmd = adit(t, "client", "-L", "127.0.0.1:0:h:1", "wss://"+testnet.RefusedAddr(t))
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	c := start(t, cmd)
	expect("READY=1") // although the server does not answer
	expect("STATUS=not connected")
	c.signal(syscall.SIGTERM)
	c.ends(0)
}

func TestDemo(t *testing.T) {
	out, errs, status := output(t, adit(t, "demo", "--once", "--size", "8"), "")
	if status != 0 || !regexp.MustCompile(`(?s)✓ up .*8\.0 MiB.*sha256 \w+.*✓ down .*8\.0 MiB.*✓ route .*JSON`).MatchString(out) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if strings.Contains(out, "Ctrl-C") {
		t.Error("--once suggests what to try")
	}

	// Without --once it prints what to try and runs until it is stopped.
	cmd := adit(t, "demo", "--size", "1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, cmd)
	var text strings.Builder
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		text.WriteString(scanner.Text() + "\n")
		if strings.Contains(scanner.Text(), "one line each") {
			break
		}
	}
	env := regexp.MustCompile(`export (ADIT_TOKEN=\S+)`).FindStringSubmatch(text.String())
	check := regexp.MustCompile(`adit (check .*)`).FindStringSubmatch(text.String())
	page := regexp.MustCompile(`\n  (http://\S+)\n +in a browser`).FindStringSubmatch(text.String())
	if env == nil || check == nil || page == nil {
		t.Fatalf("the demo does not print what to try:\n%s", text.String())
	}
	try := adit(t, strings.Fields(check[1])...)
	try.Env = append(try.Env, env[1])
	if out, errs, status := output(t, try, ""); status != 0 {
		t.Errorf("what the demo suggests fails:\n%s%s", out, errs)
	}
	resp, err := http.Get(page[1])
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), ">/json<") {
		t.Errorf("the demo's page: %s %v\n%s", resp.Status, err, body)
	}
	d.signal(syscall.SIGINT)
	d.ends(0)
}

// The demo ends when its terminal does.
func TestDemoHangup(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("started so that SIGHUP is ignored, as by nohup")
	}
	cmd := adit(t, "demo", "--size", "1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, cmd)
	for scanner := bufio.NewScanner(stdout); scanner.Scan() && !strings.HasPrefix(scanner.Text(), "Try, until Ctrl-C"); {
	}
	d.signal(syscall.SIGHUP)
	d.ends(-1) // -1: by a signal
}
