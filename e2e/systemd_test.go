//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses inside the booted machine.
const (
	unitsEcho  = "127.0.0.1:7000" // a backend that sends back what it gets
	unitsLocal = "127.0.0.1:2222" // the client's forward to it
	unitsLate  = "127.0.0.1:2223" // a forward to a target that the server learns by a reload
	unitsOwn   = "127.0.0.1:8443" // a port that the server opens by itself, beside the socket unit's
	unitsPort  = "127.0.0.1:443"
)

// TestSystemdUnits installs adit with its units as `make install` does, in a booted Debian, and
// has systemd start, reload, kill, hang and stop both ends.
func TestSystemdUnits(t *testing.T) {
	needRoot(t)
	need(t, "make")
	stage := workDir(t)
	here := machine(t)
	here.run(t, "", "make", "--no-print-directory", "-C", repositoryRoot(t), "install", "DESTDIR="+stage, "BINARY="+aditBin)
	m := boot(t,
		filepath.Join(stage, "usr/local/bin")+":/usr/local/bin",
		filepath.Join(stage, "usr/local/lib/systemd")+":/usr/local/lib/systemd",
		configureUnits(t, here)+":/etc/adit")
	echoBackend(t, m.listen(t, unitsEcho))
	const server, socket, client = "adit-server.service", "adit-server.socket", "adit-client@test.service"
	t.Cleanup(func() {
		if t.Failed() && !m.nspawn.ended() {
			t.Logf("journal of the booted machine:\n%s", m.journal("adit-*"))
		}
	})

	if !t.Run("a client starts before there is a server", func(t *testing.T) {
		// It is ready only with its listeners open: the first try has to get in.
		m.run(t, "systemctl", "start", client)
		for _, addr := range []string{unitsLocal, unitsLate} {
			accepts(t, m.host, addr)
		}
	}) {
		return
	}
	if !t.Run("a connection starts the server", func(t *testing.T) {
		m.run(t, "systemctl", "start", socket)
		eventually(t, patience, "the client finds the server", func() error { return echoes(m.host, unitsLocal, 1) })
		if state := m.show(t, server, "ActiveState"); state != "active" {
			t.Errorf("the server's service is %s", state)
		}
		if err := echoes(m.host, unitsLocal, 32<<20); err != nil {
			t.Errorf("a transfer of 32 MiB: %v", err)
		}
	}) {
		return
	}
	t.Run("without privileges", func(t *testing.T) {
		for _, unit := range []string{server, client} {
			unprivileged(t, unit, m.run(t, "cat", "/proc/"+m.show(t, unit, "MainPID")+"/status"))
		}
	})
	t.Run("secrets stay root's", func(t *testing.T) {
		for _, dir := range []string{"server.credentials", "test.credentials"} {
			if mode := m.run(t, "stat", "--format=%U %a", "/etc/adit/"+dir); mode != "root 700\n" {
				t.Errorf("/etc/adit/%s has owner and mode %s", dir, mode)
			}
		}
	})
	t.Run("reload", func(t *testing.T) {
		before := m.show(t, server, "MainPID")
		if err := echoes(m.host, unitsLate, 1); err == nil {
			t.Errorf("the target that is yet to be configured can be reached")
		}
		m.run(t, "sh", "-c", "cat /etc/adit/late.toml >/etc/adit/server.toml")
		m.run(t, "systemctl", "reload", server)
		eventually(t, patience, "the new target can be reached", func() error { return echoes(m.host, unitsLate, 1) })
		m.run(t, "systemctl", "reload", client)
		eventually(t, patience, "the client works after its reload", func() error { return echoes(m.host, unitsLocal, 1) })
		if after := m.show(t, server, "MainPID"); after != before {
			t.Errorf("the reload changed the server's process from %s to %s", before, after)
		}
	})
	t.Run("kill", func(t *testing.T) {
		for _, unit := range []string{server, client} {
			before := m.show(t, unit, "MainPID")
			m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
			eventually(t, patience, unit+" is back", func() error {
				// The socket unit keeps the server's port: nobody is refused meanwhile.
				if unit == server {
					accepts(t, m.host, unitsPort)
				}
				return anew(t, m, unit, before)
			})
			eventually(t, patience, "the tunnel is back", func() error { return echoes(m.host, unitsLocal, 1<<20) })
		}
	})
	t.Run("watchdog", func(t *testing.T) {
		for _, unit := range []string{server, client} {
			dropIn := "/run/systemd/system/" + unit + ".d"
			m.run(t, "mkdir", "-p", dropIn)
			m.run(t, "sh", "-c", "printf '[Service]\nWatchdogSec=1s\n' >"+dropIn+"/watchdog.conf")
			m.run(t, "systemctl", "daemon-reload")
			m.run(t, "systemctl", "restart", unit)
			before := m.show(t, unit, "MainPID")
			m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit)
			eventually(t, patience, unit+" is back", func() error { return anew(t, m, unit, before) })
		}
		eventually(t, patience, "the tunnel is back", func() error { return echoes(m.host, unitsLocal, 1<<20) })
	})
	t.Run("stop and start", func(t *testing.T) {
		for _, unit := range []string{client, socket, server} {
			m.run(t, "systemctl", "stop", unit)
		}
		for _, unit := range []string{server, client} {
			if result, status := m.show(t, unit, "Result"), m.show(t, unit, "ExecMainStatus"); result != "success" || status != "0" {
				t.Errorf("%s was stopped with result %s, exit status %s", unit, result, status)
			}
		}
		// By hand, the service brings its socket along, and is ready only when all it listens on is.
		m.run(t, "systemctl", "start", server)
		for _, addr := range []string{unitsPort, unitsOwn} {
			accepts(t, m.host, addr)
		}
		m.run(t, "systemctl", "start", client)
		eventually(t, patience, "the tunnel is back", func() error { return echoes(m.host, unitsLocal, 1<<20) })
	})
	t.Run("power off", func(t *testing.T) {
		m.powerOff(t)
	})
}

// configureUnits makes an /etc/adit for both ends.
func configureUnits(t *testing.T, here *host) string {
	t.Helper()
	dir := workDir(t)
	pair, alice := newKeyPair(t, "127.0.0.1"), newAccount(t, here, "alice")
	for _, secrets := range []string{"server.credentials", "test.credentials"} {
		if err := os.Mkdir(filepath.Join(dir, secrets), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{
		pair.cert: "cert.pem", pair.ca: "ca.pem",
		pair.key: "server.credentials/privkey.pem", alice.tokenFile: "test.credentials/token",
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.Contains(to, "credentials") {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, mode); err != nil {
			t.Fatal(err)
		}
	}
	target := func(name string) string {
		return fmt.Sprintf("[[target]]\nname = %q\naddress = %q\n", name, unitsEcho)
	}
	common := fmt.Sprintf(`listen = ["systemd:adit-server.socket", %q]
[tls]
cert = "/etc/adit/cert.pem"
key = "/run/credentials/adit-server.service/adit_privkey.pem"
`, unitsOwn)
	writeFile(t, dir, "server.toml", common+alice.users("echo")+target("echo"))
	writeFile(t, dir, "late.toml", common+alice.users("echo", "late")+target("echo")+target("late"))
	writeFile(t, dir, "test.toml", fmt.Sprintf(`server = ["wss://%s/tunnel"]
token-file = "/run/credentials/adit-client@test.service/adit_token"
forward = ["%s:echo", "%s:late"]
[tls]
ca = "/etc/adit/ca.pem"
`, unitsPort, unitsLocal, unitsLate))
	return dir
}

// unprivileged checks what a /proc/PID/status says of the process's rights.
func unprivileged(t *testing.T, name, status string) {
	t.Helper()
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "CapEff", "CapPrm", "CapBnd", "CapAmb":
			if value != "0000000000000000" {
				t.Errorf("%s has capabilities: %s", name, line)
			}
		case "NoNewPrivs":
			if value != "1" {
				t.Errorf("%s can gain privileges: %s", name, line)
			}
		case "Uid", "Gid":
			if strings.Contains("\t"+value+"\t", "\t0\t") {
				t.Errorf("%s runs as root: %s", name, line)
			}
		}
	}
}

// anew returns nil when the unit is up with another process than before.
func anew(t *testing.T, m *booted, unit, before string) error {
	t.Helper()
	if state := m.show(t, unit, "ActiveState"); state != "active" {
		return fmt.Errorf("it is %s", state)
	}
	if pid := m.show(t, unit, "MainPID"); pid == before {
		return fmt.Errorf("it is still process %s", pid)
	}
	return nil
}

// accepts fails the test when nobody listens on addr. What becomes of the connection is all the same.
func accepts(t *testing.T, m *host, addr string) {
	t.Helper()
	conn, err := m.dial(addr)
	if err == nil {
		conn.Close()
	} else if !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("nobody listens: %v", err)
	}
}

// echoBackend sends back what it gets, and ends when it ends.
func echoBackend(t *testing.T, l net.Listener) {
	t.Helper()
	serve(t, l, func(conn net.Conn) { copyBig(conn, conn) })
}

// echoes sends size bytes to addr, an echo, and checks what comes back.
func echoes(m *host, addr string, size int64) error {
	conn, err := m.dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := copyBig(conn, newNoise(uint64(size), size))
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	got := digestOf(conn)
	conn.Close() // a sender that is stuck ends, too
	if err := <-sent; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if want := noiseDigest(uint64(size), size); got != want {
		return fmt.Errorf("what came back has the digest %s, want %s", got, want)
	}
	return nil
}

// repositoryRoot is the directory of go.mod.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
