//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

// serverClosed is the server's line for a session that its client ended in order.
const serverClosed = `msg="session closed".*reason="the client is done"`

// A stdioRig is a server and the command line of adit client -W through it.
type stdioRig struct {
	host   *host
	app    *application
	server *server
	argv   []string // without -W
}

// newStdioRig starts the server. through returns the address to dial instead of the server's; nil:
// the server's.
func newStdioRig(t *testing.T, through func(server string) string) *stdioRig {
	t.Helper()
	h := machine(t)
	u := &localTunnel{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice")}
	r := &stdioRig{host: h, app: newApplication(t, h)}
	r.server = u.serve(t, "127.0.0.1:0", "127.0.0.1:*")
	addr := r.server.addr
	if through != nil {
		addr = through(addr)
	}
	r.argv = []string{aditBin, "client", "--proxy", "none", "--token-file", u.alice.tokenFile, "--ca", u.pair.ca, "wss://" + addr + tunnelPath}
	return r
}

// shell returns the command line for a target as a line for a shell.
func (r *stdioRig) shell(target string) string {
	return strings.Join(append(r.argv, "-W", target), " ")
}

// wantStreamEnd reads from the application's end of a stream until that ends, in whatever way.
func wantStreamEnd(t *testing.T, far io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, far); os.IsTimeout(err) {
		t.Error("the target's connection does not end")
	}
}

// adit client -W … | head ends in order when head does: with a close message, so that the server
// does not keep the session and the target's connection for a resumption.
func TestStdioIntoHead(t *testing.T) {
	t.Parallel()
	r := newStdioRig(t, nil)
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer feed.Close()
	p := r.host.start(t, "adit client | head", spec{argv: []string{"bash", "-c", r.shell(r.app.addr) + ` | head -n 1; echo "status ${PIPESTATUS[0]}"`}, stdin: in})
	far := r.app.accept(t)
	go func() {
		for {
			if _, err := io.WriteString(far, "a line\n"); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	p.wait(t, "^status 0$", 1)
	r.server.wait(t, serverClosed, 1)
	wantStreamEnd(t, far)
}

// A ProxyCommand ends with its ssh: by the SIGHUP that ssh sends, or when ssh is killed and both
// pipes have lost their other end.
func TestProxyCommandEndsWithSSH(t *testing.T) {
	t.Parallel()
	need(t, "ssh")
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "by SIGHUP", true: "that is killed"}[killed], func(t *testing.T) {
			t.Parallel()
			r := newStdioRig(t, nil)
			timeout := map[bool]string{false: "2", true: "0"}[killed]
			ssh := r.host.start(t, "ssh", spec{argv: []string{"ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=" + timeout,
				"-o", "ProxyCommand=" + r.shell("%h:%p"), "-p", r.app.addr[strings.LastIndex(r.app.addr, ":")+1:], "127.0.0.1"}})
			far := r.app.accept(t) // it never answers
			if killed {
				if err := ssh.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			r.server.wait(t, serverClosed, 1)
			wantStreamEnd(t, far)
		})
	}
}

// The reason why -W failed is on standard error before standard output ends: ssh reports the end at
// once, and ends.
func TestStdioReasonComesBeforeTheEnd(t *testing.T) {
	t.Parallel()
	r := newStdioRig(t, nil)
	refused := testnet.RefusedAddr(t)
	for _, tt := range []struct{ name, target, url, want string }{
		{"refused by the target", refused, "", "refused"},
		{"no server", refused, "wss://" + refused, "connection refused"},
	} {
		argv := append(r.argv[:len(r.argv):len(r.argv)], "-W", tt.target)
		if tt.url != "" {
			argv[len(r.argv)-1] = tt.url
		}
		stdout, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, errs, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv(t.TempDir()), out, errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Close()
		errs.Close()
		stdout.SetReadDeadline(time.Now().Add(patience))
		if b, err := io.ReadAll(stdout); err != nil || len(b) > 0 {
			t.Errorf("%s: standard output: %q, %v", tt.name, b, err)
		}
		// What is there now.
		stderr.SetReadDeadline(time.Now().Add(time.Millisecond))
		b := make([]byte, 64<<10)
		n, _ := stderr.Read(b)
		if !strings.Contains(string(b[:n]), tt.want) {
			t.Errorf("%s: standard output has ended, and standard error is %q", tt.name, b[:n])
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %v", tt.name, err)
		}
		stdout.Close()
		stderr.Close()
	}
}

// -W writes nothing into ssh's terminal about a lost connection that it replaces.
func TestStdioIsSilentWhileItRecovers(t *testing.T) {
	t.Parallel()
	var fault *testnet.Fault
	r := newStdioRig(t, func(server string) string {
		fault = testnet.NewFault(t, server)
		return fault.Addr()
	})
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := r.host.start(t, "adit client -W", spec{argv: append(r.argv, "-W", r.app.addr), stdin: in})
	far := r.app.accept(t)
	exchange := func(text string) {
		t.Helper()
		fmt.Fprintln(feed, text)
		got := make([]byte, len(text)+1)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != text+"\n" {
			t.Fatalf("%q, %v", got, err)
		}
		fmt.Fprintln(far, text)
	}
	exchange("before")
	fault.Down()
	time.Sleep(time.Second) // some attempts fail
	fault.Up(t)
	exchange("after")
	r.server.wait(t, `msg="link resumed"`, 1)
	feed.Close()
	far.Close()
	<-p.done
	if got := strings.Join(p.log.all(), "\n"); got != "before\nafter" {
		t.Errorf("the terminal shows\n%s", got)
	}
}

// coreutils timeout sends SIGTERM to its command and then to the process group, in the same
// instant. Both are one request: the server drains, the client ends in order.
func TestTimeoutDoesNotSkipTheDrain(t *testing.T) {
	t.Parallel()
	need(t, "timeout")
	h := machine(t)
	app := newApplication(t, h)
	u := &localTunnel{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice")}
	s := h.start(t, "timeout adit server", spec{argv: []string{"timeout", "--preserve-status", "8", aditBin, "server", "--listen", "127.0.0.1:0",
		"--tls-cert", u.pair.cert, "--tls-key", u.pair.key, "--tunnel-path", tunnelPath, "--users", writeFile(t, workDir(t), "users.toml", u.alice.users(app.addr))}})
	addr := s.wait(t, `msg=listening addr=(\S+)`, 1)[1]
	client := []string{aditBin, "client", "--proxy", "none", "--token-file", u.alice.tokenFile, "--ca", u.pair.ca, "-L", "127.0.0.1:0:" + app.addr, "wss://" + addr + tunnelPath}

	short := h.start(t, "timeout adit client", spec{argv: append([]string{"timeout", "--preserve-status", "2"}, client...)})
	short.wait(t, linkUp, 1)
	<-short.done
	if status := short.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("the client ended with status %d", status)
	}
	for _, line := range []string{`msg=stopping reason="signal: terminated"`, `msg=stopped`} {
		if short.count(line) != 1 {
			t.Errorf("the client does not log %s", line)
		}
	}
	s.wait(t, serverClosed, 1)

	c := h.client(t, client[2:]...)
	near, err := h.dial(c.listens(t, app.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far := app.accept(t)
	s.wait(t, `msg=stopping reason="signal: terminated"`, 1)
	time.Sleep(time.Second)
	if s.ended() {
		t.Fatal("the server did not drain")
	}
	if _, err := near.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Errorf("while the server drains: %v", err)
	}
	near.Close()
	far.Close()
	<-s.done
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("the server ended with status %d", status)
	}
}

// A client ends with its terminal and frees its port.
func TestClientEndsWithItsTerminal(t *testing.T) {
	t.Parallel()
	r := newStdioRig(t, nil)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(aditBin, append(r.argv[1:], "-L", "127.0.0.1:0:"+r.app.addr)...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = cleanEnv(t.TempDir()), tty, tty, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	// A signal that this process handles is at its default in a child, even if the
	// tests were started with nohup.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	has := func(text string) func() error {
		return func() error {
			b, err := os.ReadFile(log.Name())
			if err == nil && !strings.Contains(string(b), text) {
				err = fmt.Errorf("the log is\n%s", b)
			}
			return err
		}
	}
	eventually(t, patience, "the link is up", has(`msg="link up"`))
	// A terminal that is still there makes SIGHUP a reload.
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the client migrates", has(`msg="link migrated"`))
	master.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Fatal("the client outlives its terminal")
	}
	if err := has(`msg=stopping reason="the terminal has closed"`)(); err != nil {
		t.Error(err)
	}
}
