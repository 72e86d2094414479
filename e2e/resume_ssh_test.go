//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A shell is an interactive ssh session in which a variable has been set.
type shell struct {
	*process
	in    *os.File
	mark  int
	asked int
}

func (u *tunnelUser) shell(t *testing.T) *shell {
	t.Helper()
	_, port, _ := net.SplitHostPort(sshLocal)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	t.Cleanup(func() { out.Close() })
	argv := append([]string{"ssh", "-tt"}, u.sshOptions(t, "-o", "Port="+port, "root@127.0.0.1", "sh")...)
	s := &shell{u.at.start(t, "ssh", spec{argv: argv, stdin: in}), out, rand.IntN(1 << 30), 0}
	s.say(t, "mark=%d", s.mark)
	s.answers(t)
	return s
}

func (s *shell) say(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(s.in, format+"\n", args...); err != nil {
		t.Fatalf("at the prompt: %v", err)
	}
}

// answers checks that the shell still has its variable.
func (s *shell) answers(t *testing.T) {
	t.Helper()
	s.asked++
	s.say(t, `echo "answer %d: $mark"`, s.asked)
	s.wait(t, fmt.Sprintf(`answer %d: %d\b`, s.asked, s.mark), 1)
}

// leaves exits the shell with a status that must arrive.
func (s *shell) leaves(t *testing.T) {
	t.Helper()
	s.say(t, "exit 3")
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("ssh does not end")
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 3 {
		t.Errorf("ssh ended with %v, want 3", s.cmd.ProcessState)
	}
}

// copies is a scp of a large file in each direction.
type copies struct {
	up, down *process
	files    [2]string
}

const copiedSize = 24 << 20

// copies starts both and returns when both files have begun to arrive.
func (u *tunnelUser) copies(t *testing.T) *copies {
	t.Helper()
	_, port, _ := net.SplitHostPort(sshLocal)
	dir := workDir(t)
	source := filepath.Join(dir, "source")
	f, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copyBig(f, newNoise(23, copiedSize)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c := &copies{files: [2]string{filepath.Join(dir, "there"), filepath.Join(dir, "back")}}
	scp := func(name, from, to string) *process {
		// The rate in kbit/s: the transfers must still be running when the connection is lost.
		argv := append([]string{"scp", "-l", "64000"}, u.sshOptions(t, "-o", "Port="+port, from, to)...)
		return u.at.start(t, name, spec{argv: argv})
	}
	c.up = scp("scp to the gateway", source, "root@127.0.0.1:"+c.files[0])
	c.down = scp("scp from the gateway", "root@127.0.0.1:"+source, c.files[1])
	for _, file := range c.files {
		eventually(t, patience, file+" begins to arrive", func() error {
			info, err := os.Stat(file)
			if err == nil && info.Size() < 1<<20 {
				err = fmt.Errorf("it has %d bytes", info.Size())
			}
			return err
		})
	}
	return c
}

// stillRunning fails the test if a transfer has already completed.
func (c *copies) stillRunning(t *testing.T) {
	t.Helper()
	if c.up.ended() || c.down.ended() {
		t.Error("scp had ended before the link was lost")
	}
}

func (c *copies) arrive(t *testing.T) {
	t.Helper()
	for i, p := range []*process{c.up, c.down} {
		select {
		case <-p.done:
		case <-time.After(patience):
			t.Fatalf("%s does not end", p.name)
		}
		if !p.cmd.ProcessState.Success() {
			t.Errorf("%s ended with %v", p.name, p.cmd.ProcessState)
		}
		f, err := os.Open(c.files[i])
		if err != nil {
			t.Fatal(err)
		}
		if digestOf(f) != noiseDigest(23, copiedSize) {
			t.Errorf("%s: the file differs", p.name)
		}
		f.Close()
	}
}

// A sshUse is one shell and two copies through a tunnel that is about to lose its connection.
type sshUse struct {
	client *client
	shell  *shell
	copies *copies
}

func (g *gateway) useSSH(t *testing.T, at *host, proxy string) *sshUse {
	t.Helper()
	c, user := g.connect(t, at, proxy)
	c.wait(t, linkUp, 1)
	return &sshUse{c, user.shell(t), user.copies(t)}
}

// survived checks that the session was resumed once and that the shell and the copies continue.
func (u *sshUse) survived(t *testing.T) {
	t.Helper()
	u.client.waitWithin(t, 2*time.Minute, linkResumed+"|"+linkMigrated, 1)
	u.shell.answers(t)
	u.copies.arrive(t)
	u.shell.leaves(t)
	lost, back, moved := u.client.count(linkLost), u.client.count(linkResumed), u.client.count(linkMigrated)
	if lost != back || lost+moved != 1 {
		t.Errorf("the connection was lost %d times, resumed %d times and migrated %d times", lost, back, moved)
	}
	if down, streams := u.client.count(linkDown), u.client.count(streamLost); down != 0 || streams != 0 {
		t.Errorf("the session ended %d times, and %d streams were lost", down, streams)
	}
}

// ssh and scp survive every way to end or stop the connection.
func TestSSHResumes(t *testing.T) {
	t.Parallel()
	need(t, "ss")
	// A stopped proxy is detected only by its silence. Test the other cases in the meantime.
	stopped := newGateway(t, (*backends).startSSH)
	slow := newLine(t, stopped.host)
	slow.firewall(t, only3128)
	stopped.serve(t, nil)
	proxy, url := runSquid(t, slow)
	patient := stopped.useSSH(t, slow.client, url)
	proxy.signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { proxy.cmd.Process.Signal(syscall.SIGCONT) })
	since := time.Now()

	g := newGateway(t, (*backends).startSSH)
	var nginx *process
	for _, c := range []struct {
		name  string
		rules string
		front front
		proxy func(t *testing.T, l *line) (p *process, url string)
		lose  func(t *testing.T, l *line, u *sshUse, proxy *process)
	}{
		{name: "connection destroyed", rules: only443, lose: func(t *testing.T, l *line, u *sshUse, _ *process) {
			if out := l.client.run(t, "", "ss", "-KHtn", "state", "established", "dport", "=", ":443"); strings.Count(out, "\n") != 1 {
				t.Errorf("ss -K destroyed these connections, want one:\n%s", out)
			}
		}},
		{name: "address changed", rules: only443, lose: func(t *testing.T, l *line, u *sshUse, _ *process) {
			l.client.ip(t, "addr flush dev eth0")
			l.attachClient(t, "10.77.1.78")
		}},
		{name: "squid restarted", rules: only3128, proxy: runSquid, lose: func(t *testing.T, l *line, u *sshUse, squid *process) {
			argv := squid.cmd.Args
			squid.kill(t)
			l.middle.start(t, "squid", spec{argv: argv})
		}},
		{name: "nginx reloaded", rules: only443, front: func(t *testing.T, gateway *host, pair keyPair, backend string) {
			// The nginx process with the old configuration ends soon, and closes its connections.
			nginx = runNginx(t, gateway, pair, backend, "user root;\nworker_processes 1;\nworker_shutdown_timeout 500ms;")
		}, lose: func(t *testing.T, l *line, u *sshUse, _ *process) {
			nginx.signal(t, syscall.SIGHUP)
			u.client.wait(t, linkLost, 1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLine(t, g.host)
			l.firewall(t, c.rules)
			g.serve(t, c.front)
			var p *process
			url := ""
			if c.proxy != nil {
				p, url = c.proxy(t, l)
			} else {
				l.client.addName(t, gatewayName, gatewayAddr)
			}
			u := g.useSSH(t, l.client, url)
			c.lose(t, l, u, p)
			u.copies.stillRunning(t)
			u.survived(t)
		})
	}

	t.Run("squid stopped", func(t *testing.T) {
		patient.client.waitWithin(t, 2*time.Minute, linkLost+`.*not a byte from the peer`, 1)
		const pause = time.Minute
		time.Sleep(max(0, pause-time.Since(since)))
		patient.copies.stillRunning(t)
		proxy.signal(t, syscall.SIGCONT)
		patient.survived(t)
	})
}
