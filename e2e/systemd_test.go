//go:build linux

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

// Addresses inside the booted machine.
const (
	unitsEcho  = "127.0.0.1:7000" // an echo backend
	unitsLocal = "127.0.0.1:2222" // the client's forward to it
	unitsLate  = "127.0.0.1:2223" // a forward to a target that the server learns by a reload
	unitsSSH   = "127.0.0.1:2224" // a forward to the machine's own sshd
	unitsOwn   = "127.0.0.1:8443" // a port that the server opens by itself, beside the socket unit's
	unitsPort  = "127.0.0.1:443"
)

// The units under test.
const (
	serverUnit = "adit-server.service"
	socketUnit = "adit-server.socket"
	clientUnit = "adit-client@test.service"
)

// installed is a booted Debian with the .deb installed and configured.
type installed struct {
	*booted
	ca    *testnet.CA
	alice account
}

// TestSystemd installs the .deb in a booted Debian, makes systemd start, reload, kill, hang, stop
// and restart both ends, upgrades the .deb and removes it.
func TestSystemd(t *testing.T) {
	needRoot(t)
	m := install(t)
	for _, step := range []struct {
		name string
		run  func(*installed, *testing.T)
	}{
		// Each step begins in the state in which the one before ended.
		{"a client starts before there is a server", (*installed).clientFirst},
		{"a connection starts the server", (*installed).serverByConnection},
		{"ssh", (*installed).ssh},
		{"without privileges", (*installed).noPrivileges},
		{"secrets stay root's", (*installed).secrets},
		{"journal", (*installed).journalFields},
		{"reload", (*installed).reload},
		{"a new certificate, under load", (*installed).rotate},
		{"kill", (*installed).kill},
		{"watchdog", (*installed).watchdog},
		{"no network and no DNS", (*installed).networkLater},
		{"a long drain", (*installed).drain},
		{"a second server during the restart", (*installed).standby},
		{"a second server, and the link is cut", (*installed).standbyCut},
		{"without a drain", (*installed).abrupt},
		{"stop and start", (*installed).stopAndStart},
		{"upgrade", (*installed).upgrade},
		{"an upgrade after which the server does not start", (*installed).failedUpgrade},
		{"remove and purge", (*installed).purge},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(m, t) }) {
			return
		}
	}
	m.powerOff(t)
}

// install boots a Debian, installs the .deb and configures both ends.
func install(t *testing.T) *installed {
	t.Helper()
	r := released(t)
	later, _ := r.later(t)
	debs := workDir(t)
	here := machine(t)
	here.run(t, "", "cp", r.deb, filepath.Join(debs, "adit.deb"))
	here.run(t, "", "cp", later, filepath.Join(debs, "later.deb"))
	m := &installed{
		booted: boot(t, debs+":/debs"),
		ca:     testnet.NewCA(t, "adit e2e CA"),
		alice:  newAccount(t, here, "alice"),
	}
	t.Cleanup(func() {
		if t.Failed() && !m.nspawn.ended() {
			t.Logf("journal of the booted machine:\n%s", m.journal("adit-*"))
		}
	})
	m.run(t, "dpkg", "--install", "/debs/adit.deb")
	for _, unit := range []string{serverUnit, socketUnit, clientUnit} {
		// The services do not start before they are configured.
		if state := m.show(t, unit, "ActiveState"); state != "inactive" {
			t.Errorf("after the installation %s is %s", unit, state)
		}
		if out, err := m.try(t, "systemctl", "is-enabled", unit); err == nil || strings.TrimSpace(out) != "disabled" {
			t.Errorf("after the installation %s is %s", unit, strings.TrimSpace(out))
		}
	}
	m.configure(t)
	echoBackend(t, m.listen(t, unitsEcho))
	return m
}

// configure writes /etc/adit for both ends.
func (m *installed) configure(t *testing.T) {
	t.Helper()
	m.write(t, "/etc/adit/ca.pem", readFile(t, m.ca.WritePEM(t)))
	m.certify(t)
	m.write(t, "/etc/adit/test.credentials/token", readFile(t, m.alice.tokenFile))
	m.run(t, "chmod", "700", "/etc/adit/test.credentials")
	m.write(t, "/etc/adit/server.toml", m.serverConfig("echo", "ssh"))
	m.write(t, "/etc/adit/test.toml", fmt.Sprintf(`server = ["wss://%s/tunnel"]
token-file = "/run/credentials/adit-client@test.service/adit_token"
forward = ["%s:echo", "%s:late", "%s:ssh"]
[tls]
ca = "/etc/adit/ca.pem"
`, unitsPort, unitsLocal, unitsLate, unitsSSH))
}

// certify gives the server a new key and certificate, and returns the certificate's digest.
func (m *installed) certify(t *testing.T) [sha256.Size]byte {
	t.Helper()
	issued := m.ca.Issue(t, testnet.Leaf{Names: []string{"127.0.0.1"}})
	cert, key := testnet.WriteCert(t, issued)
	m.write(t, "/etc/adit/cert.pem", readFile(t, cert))
	m.write(t, "/etc/adit/server.credentials/privkey.pem", readFile(t, key))
	m.run(t, "chmod", "600", "/etc/adit/server.credentials/privkey.pem")
	return sha256.Sum256(issued.Certificate[0])
}

// serverConfig returns the server's configuration with some targets: ssh is the machine's sshd, all
// others are the echo backend.
func (m *installed) serverConfig(targets ...string) string {
	conf := fmt.Sprintf(`listen = ["systemd:adit-server.socket", %q]
drain-timeout = "1m"
[tls]
cert = "/etc/adit/cert.pem"
key = "/run/credentials/adit-server.service/adit_privkey.pem"
`, unitsOwn) + m.alice.users(targets...)
	for _, name := range targets {
		address := unitsEcho
		if name == "ssh" {
			address = sshBackend
		}
		conf += fmt.Sprintf("[[target]]\nname = %q\naddress = %q\n", name, address)
	}
	return conf
}

// tunnelIsBack waits until data passes through the tunnel.
func (m *installed) tunnelIsBack(t *testing.T) {
	t.Helper()
	eventually(t, patience, "the tunnel is back", func() error { return echoes(m.host, unitsLocal, 1<<20) })
}

func (m *installed) clientFirst(t *testing.T) {
	// The service is ready only when its listeners are open, so the first connection must work.
	m.run(t, "systemctl", "enable", "--now", clientUnit)
	for _, addr := range []string{unitsLocal, unitsLate, unitsSSH} {
		accepts(t, m.host, addr)
	}
	eventually(t, patience, "systemctl status says why there is no link", func() error {
		if text := m.show(t, clientUnit, "StatusText"); !strings.Contains(text, "not connected") || !strings.Contains(text, "refused") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}

func (m *installed) serverByConnection(t *testing.T) {
	m.run(t, "systemctl", "enable", "--now", socketUnit)
	eventually(t, patience, "the client finds the server", func() error { return echoes(m.host, unitsLocal, 1) })
	if state := m.show(t, serverUnit, "ActiveState"); state != "active" {
		t.Errorf("the server's service is %s", state)
	}
	if err := echoes(m.host, unitsLocal, 32<<20); err != nil {
		t.Errorf("a transfer of 32 MiB: %v", err)
	}
	if text := m.show(t, clientUnit, "StatusText"); !strings.Contains(text, "connected to wss://"+unitsPort) {
		t.Errorf("the client's status is %q", text)
	}
}

// ssh logs in to the machine through both ends.
func (m *installed) ssh(t *testing.T) {
	m.run(t, "sh", "-c", `mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id && cp /root/.ssh/id.pub /root/.ssh/authorized_keys`)
	host, port, _ := net.SplitHostPort(unitsSSH)
	out := m.run(t, "ssh", "-i", "/root/.ssh/id", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-p", port, host, "echo $SSH_CONNECTION; id -un")
	if fields := strings.Fields(out); len(fields) != 5 || fields[3] != "22" || fields[4] != "root" {
		t.Errorf("ssh through the tunnel says %q", out)
	}
}

func (m *installed) noPrivileges(t *testing.T) {
	for _, unit := range []string{serverUnit, clientUnit} {
		unprivileged(t, unit, m.run(t, "cat", "/proc/"+m.show(t, unit, "MainPID")+"/status"))
	}
}

func (m *installed) secrets(t *testing.T) {
	for _, dir := range []string{"server.credentials", "client.credentials", "test.credentials"} {
		if mode := m.run(t, "stat", "--format=%U %a", "/etc/adit/"+dir); mode != "root 700\n" {
			t.Errorf("/etc/adit/%s has owner and mode %s", dir, mode)
		}
	}
	for _, file := range []string{
		"/etc/adit/server.credentials/privkey.pem", "/run/credentials/" + serverUnit + "/adit_privkey.pem",
		"/etc/adit/test.credentials/token", "/run/credentials/" + clientUnit + "/adit_token",
	} {
		if out := m.run(t, "cat", file); out == "" {
			t.Errorf("%s is empty", file)
		}
		if out, err := m.try(t, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", file); err == nil || out != "" || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("%s: no program reads it: %v", file, err)
		}
	}
}

// journalFields finds log lines by their fields.
func (m *installed) journalFields(t *testing.T) {
	eventually(t, patience, "the journal has the session by its user", func() error {
		out, err := m.try(t, "journalctl", "--no-pager", "--output=json", "--unit="+serverUnit, "ADIT_USER=alice")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				return err
			}
			message, _ := entry["MESSAGE"].(string)
			if strings.Contains(message, "session opened") && entry["PRIORITY"] == "6" && entry["ADIT_ADDR"] != nil {
				return nil
			}
		}
		return fmt.Errorf("the entries are %q", out)
	})
}

func (m *installed) reload(t *testing.T) {
	before := m.show(t, serverUnit, "MainPID")
	live, err := m.dial(unitsLocal)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	pass := func(when string) {
		t.Helper()
		live.SetDeadline(time.Now().Add(patience))
		if _, err := live.Write([]byte("x")); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(live, make([]byte, 1)); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	pass("before the reload")
	if err := echoes(m.host, unitsLate, 1); err == nil {
		t.Errorf("the target that is yet to be configured can be reached")
	}
	logged := func(message string) {
		t.Helper()
		eventually(t, patience, "the journal says "+message, func() error {
			if log := m.journal(serverUnit); !strings.Contains(log, message) {
				return errors.New("it does not")
			}
			return nil
		})
	}
	m.write(t, "/etc/adit/server.toml", strings.Replace(m.serverConfig("echo", "late", "ssh"), "drain-timeout", "drain-timeuot", 1))
	m.run(t, "systemctl", "reload", serverUnit)
	logged("reload refused, nothing is changed")
	logged("did you mean drain-timeout")
	pass("after a reload of a bad file")
	if err := echoes(m.host, unitsLate, 1); err == nil {
		t.Errorf("a part of a bad file is in force")
	}
	m.write(t, "/etc/adit/server.toml", m.serverConfig("echo", "late", "ssh"))
	m.run(t, "systemctl", "reload", serverUnit)
	eventually(t, patience, "the new target can be reached", func() error { return echoes(m.host, unitsLate, 1) })
	pass("after a reload of a good file")
	m.run(t, "systemctl", "reload", clientUnit)
	pass("after a reload of the client")
	if err := echoes(m.host, unitsLocal, 1); err != nil {
		t.Errorf("after the client's reload: %v", err)
	}
	if after := m.show(t, serverUnit, "MainPID"); after != before {
		t.Errorf("the reload changed the server's process from %s to %s", before, after)
	}
	for _, unit := range []string{serverUnit, clientUnit} {
		// A failed notification would leave it "reloading" for good.
		eventually(t, patience, unit+" is done with its reload", func() error {
			if state := m.show(t, unit, "ActiveState"); state != "active" {
				return fmt.Errorf("it is %s", state)
			}
			return nil
		})
	}
}

// rotate replaces the key and certificate and restarts the server while clients connect. The socket
// unit keeps the port open.
func (m *installed) rotate(t *testing.T) {
	digest := m.certify(t)
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		tried int
		err   error
	}
	results := make(chan result, 1)
	go func() {
		var r result
		for ctx.Err() == nil && r.err == nil {
			conn, err := m.dialWithin(patience, unitsPort)
			if r.tried++; err == nil {
				conn.Close()
			} else if !errors.Is(err, unix.ECONNRESET) {
				r.err = err
			}
		}
		results <- r
	}()
	before := m.show(t, serverUnit, "MainPID")
	m.run(t, "systemctl", "restart", serverUnit)
	if err := restarted(t, m.booted, serverUnit, before); err != nil {
		t.Error(err)
	}
	m.tunnelIsBack(t)
	cancel()
	r := <-results
	if r.err != nil || r.tried == 0 {
		t.Errorf("connection %d during the restart failed: %v", r.tried, r.err)
	}
	t.Logf("%d connections during the restart", r.tried)
	if got, err := m.servedCertificate(); err != nil || got != digest {
		t.Errorf("the server does not use the new certificate: %v", err)
	}
}

func (m *installed) kill(t *testing.T) {
	for _, unit := range []string{serverUnit, clientUnit} {
		before := m.show(t, unit, "MainPID")
		m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
		eventually(t, patience, unit+" is back", func() error {
			// The socket unit keeps the server's port open: no connection is refused.
			if unit == serverUnit {
				accepts(t, m.host, unitsPort)
			}
			return restarted(t, m.booted, unit, before)
		})
		m.tunnelIsBack(t)
	}
}

// setFor adds a drop-in with a setting to a service and restarts it.
func (m *installed) setFor(t *testing.T, unit, name, setting string) {
	t.Helper()
	m.write(t, "/run/systemd/system/"+unit+".d/"+name+".conf", "[Service]\n"+setting+"\n")
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "restart", unit)
}

func (m *installed) watchdog(t *testing.T) {
	for _, unit := range []string{serverUnit, clientUnit} {
		m.setFor(t, unit, "watchdog", "WatchdogSec=2s")
		before := m.show(t, unit, "MainPID")
		m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit)
		eventually(t, patience, unit+" is back", func() error { return restarted(t, m.booted, unit, before) })
		if log := m.journal(unit); !strings.Contains(log, "Watchdog timeout") {
			t.Errorf("the watchdog did not end %s", unit)
		}
	}
	m.tunnelIsBack(t)
	// Idle services feed their watchdogs, and so does a client without a server.
	m.run(t, "systemctl", "stop", socketUnit, serverUnit)
	m.fed(t, clientUnit)
	m.run(t, "systemctl", "start", socketUnit, serverUnit)
	m.run(t, "systemctl", "stop", clientUnit)
	m.fed(t, serverUnit)
	m.run(t, "systemctl", "start", clientUnit)
	m.tunnelIsBack(t)
}

// fed waits until a service whose watchdog has a timeout of two seconds has run for longer.
func (m *installed) fed(t *testing.T, unit string) {
	t.Helper()
	pid, restarts := m.show(t, unit, "MainPID"), m.show(t, unit, "NRestarts")
	stamp := func() int64 {
		n, err := strconv.ParseInt(m.show(t, unit, "WatchdogTimestampMonotonic"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := stamp()
	eventually(t, patience, "the watchdog of "+unit+" is fed for five seconds", func() error {
		if fed := time.Duration(stamp()-first) * time.Microsecond; fed < 5*time.Second {
			return fmt.Errorf("it was for %v", fed)
		}
		return nil
	})
	if now := m.show(t, unit, "MainPID"); now != pid || m.show(t, unit, "NRestarts") != restarts {
		t.Errorf("%s was restarted", unit)
	}
}

// networkLater starts a client on a machine that has neither a network nor DNS, as at boot, and
// then adds both.
func (m *installed) networkLater(t *testing.T) {
	need(t, "dnsmasq")
	const unit, local, inside, outside = "adit-client@late.service", "127.0.0.1:2230", "10.77.3.2", "10.77.3.1"
	far := isolated(t, "far")
	m.write(t, "/etc/adit/late.credentials/token", readFile(t, m.alice.tokenFile))
	m.write(t, "/etc/adit/late.toml", fmt.Sprintf(`server = ["wss://%s/tunnel"]
token-file = "/run/credentials/%s/adit_token"
forward = ["%s:%s"]
[tls]
ca = "/etc/adit/ca.pem"
`, gatewayName, unit, local, jsonBackend))
	m.run(t, "sh", "-c", ": >/etc/resolv.conf")
	m.run(t, "systemctl", "start", unit)
	pid := m.show(t, unit, "MainPID")
	eventually(t, patience, "the client says what is missing", func() error {
		if text := m.show(t, unit, "StatusText"); !strings.Contains(text, "not connected") || !strings.Contains(text, gatewayName) {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})

	far.ip(t, fmt.Sprintf("link add far0 type veth peer name eth0 netns %d", m.tid))
	t.Cleanup(func() { far.do(func() { exec.Command(program(t, "ip"), "link", "del", "far0").Run() }) })
	far.ip(t, "addr add "+outside+"/24 dev far0")
	far.ip(t, "link set far0 up")
	pair := m.ca.Issue(t, testnet.Leaf{Names: []string{gatewayName}})
	cert, key := testnet.WriteCert(t, pair)
	echoBackend(t, far.listen(t, jsonBackend))
	far.server(t, "--config", writeFile(t, workDir(t), "server.toml",
		fmt.Sprintf("listen = [\":443\"]\n[tls]\ncert = %q\nkey = %q\n", cert, key)+m.alice.users(jsonBackend)))
	dns := far.start(t, "dnsmasq", spec{argv: []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file",
		"--no-resolv", "--no-hosts", "--listen-address=" + outside, "--bind-interfaces", "--log-facility=-",
		fmt.Sprintf("--address=/%s/%s", gatewayName, outside)}})
	dns.awaitPort(t, far, outside+":53")

	m.ip(t, "addr add "+inside+"/24 dev eth0")
	m.ip(t, "link set eth0 up")
	m.write(t, "/etc/resolv.conf", "nameserver "+outside+"\n")
	eventually(t, 2*time.Minute, "the client finds its server", func() error { return echoes(m.host, local, 1<<20) })
	if now := m.show(t, unit, "MainPID"); now != pid {
		t.Error("the client was restarted on the way")
	}
	m.run(t, "systemctl", "stop", unit)
}

// drain stops the server while a connection is open, and closes that only after the time that
// TimeoutStopSec= gives the server.
func (m *installed) drain(t *testing.T) {
	const limit = time.Second
	m.setFor(t, serverUnit, "stop", "TimeoutStopSec=1s")
	m.tunnelIsBack(t)
	conn, err := m.dial(unitsLocal)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	pass := func() {
		t.Helper()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	pass()
	pid := m.show(t, serverUnit, "MainPID")
	m.run(t, "systemctl", "stop", "--no-block", socketUnit, serverUnit)
	eventually(t, patience, "the server is stopping", func() error {
		if state := m.show(t, serverUnit, "ActiveState"); state != "deactivating" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	for end := time.Now().Add(5 * limit); time.Now().Before(end); time.Sleep(limit / 10) {
		pass()
	}
	if state, now := m.show(t, serverUnit, "ActiveState"), m.show(t, serverUnit, "MainPID"); state != "deactivating" || now != pid {
		t.Errorf("the server is %s, with process %s instead of %s", state, now, pid)
	}
	conn.Close()
	eventually(t, patience, "the server has stopped", func() error {
		if state := m.show(t, serverUnit, "ActiveState"); state != "inactive" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	if result := m.show(t, serverUnit, "Result"); result != "success" {
		t.Errorf("the server was stopped with result %s", result)
	}
	m.run(t, "rm", "-r", "/run/systemd/system/"+serverUnit+".d", "/run/systemd/system/"+clientUnit+".d")
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "start", socketUnit)
	m.tunnelIsBack(t)
}

func (m *installed) stopAndStart(t *testing.T) {
	for _, unit := range []string{clientUnit, socketUnit, serverUnit} {
		m.run(t, "systemctl", "stop", unit)
	}
	for _, unit := range []string{serverUnit, clientUnit} {
		if result, status := m.show(t, unit, "Result"), m.show(t, unit, "ExecMainStatus"); result != "success" || status != "0" {
			t.Errorf("%s was stopped with result %s, exit status %s", unit, result, status)
		}
	}
	// Started manually, the service starts its socket, and is ready only when all its listeners are
	// open.
	m.run(t, "systemctl", "start", serverUnit)
	for _, addr := range []string{unitsPort, unitsOwn} {
		accepts(t, m.host, addr)
	}
	m.run(t, "systemctl", "start", clientUnit)
	m.tunnelIsBack(t)
}

// upgrade installs a later .deb with a different default configuration while the services run.
func (m *installed) upgrade(t *testing.T) {
	conf := m.run(t, "cat", "/etc/adit/server.toml", "/etc/adit/test.toml")
	server, client := m.show(t, serverUnit, "MainPID"), m.show(t, clientUnit, "MainPID")
	stopVisits := m.visits(t, m.visitSite)
	// dpkg cannot ask here: it keeps the operator's configuration.
	m.run(t, "dpkg", "--force-confdef", "--force-confold", "--install", "/debs/later.deb")
	t.Logf("%d visits during the upgrade", stopVisits())
	if version := m.run(t, "dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", "adit"); version != "9.0.0-1 installed" {
		t.Errorf("after the upgrade there is %s", version)
	}
	if now := m.run(t, "cat", "/etc/adit/server.toml", "/etc/adit/test.toml"); now != conf {
		t.Errorf("the upgrade changed the configuration to\n%s", now)
	}
	for unit, before := range map[string]string{serverUnit: server, clientUnit: client} {
		if err := restarted(t, m.booted, unit, before); err != nil {
			t.Errorf("%s after the upgrade: %v", unit, err)
		}
	}
	for _, unit := range []string{socketUnit, clientUnit} {
		if out, err := m.try(t, "systemctl", "is-enabled", unit); err != nil {
			t.Errorf("after the upgrade %s is %s", unit, out)
		}
	}
	if log := m.journal(standbyUnit); strings.Count(log, "Started ") < 3 {
		t.Errorf("there was no second server during the upgrade:\n%s", log)
	}
	m.awaitState(t, standbyUnit, "inactive")
	m.tunnelIsBack(t)
}

// failedUpgrade makes the new server fail to start: the second one keeps running, and the client's
// tunnel too.
func (m *installed) failedUpgrade(t *testing.T) {
	dropIn := "/run/systemd/system/" + serverUnit + ".d"
	m.write(t, dropIn+"/fail.conf", "[Service]\nExecStartPre=/bin/false\n")
	out := m.run(t, "sh", "-c", "dpkg --force-confdef --force-confold --install /debs/later.deb 2>&1")
	if state := m.show(t, standbyUnit, "ActiveState"); state != "active" {
		t.Errorf("%s is %s", standbyUnit, state)
	}
	if !strings.Contains(out, standbyUnit+" goes on") {
		t.Errorf("dpkg does not say that the second server keeps running:\n%s", out)
	}
	m.tunnelIsBack(t)
	m.run(t, "rm", "-r", dropIn)
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "restart", serverUnit)
	m.run(t, "systemctl", "stop", standbyUnit)
	m.tunnelIsBack(t)
}

// purge removes the package, first without its configuration, then completely.
func (m *installed) purge(t *testing.T) {
	log := strings.Split(m.run(t, "journalctl", "--no-pager", "--output=verbose"), "\n")
	recordOutput("the journal of "+t.Name(), func() []string { return log })
	m.run(t, "dpkg", "--remove", "adit")
	m.run(t, "test", "-e", "/etc/adit/server.credentials/privkey.pem")
	if out := m.run(t, "systemctl", "list-units", "--plain", "--no-legend", "adit-*"); strings.Contains(out, "running") || strings.Contains(out, "listening") {
		t.Errorf("these still run:\n%s", out)
	}
	m.run(t, "dpkg", "--install", "/debs/later.deb")
	m.run(t, "systemctl", "enable", "--now", socketUnit, clientUnit)
	m.tunnelIsBack(t) // with the kept configuration
	m.run(t, "dpkg", "--purge", "adit")
	if out := m.run(t, "find", "/etc", "/usr", "/var", "/run", "(", "-name", "adit", "-o", "-name", "adit[-@.]*", "-o", "-name", "_adit", ")"); out != "" {
		t.Errorf("this is left:\n%s", out)
	}
	if out := m.run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "adit*"); out != "" {
		t.Errorf("these units are left:\n%s", out)
	}
	if out, err := m.try(t, "dpkg-query", "--show", "adit"); err == nil {
		t.Errorf("dpkg still knows %s", out)
	}
}

// TestMakeInstall checks where make install installs files.
func TestMakeInstall(t *testing.T) {
	need(t, "make")
	stage := workDir(t)
	machine(t).run(t, "", "make", "--no-print-directory", "-C", repositoryRoot(t), "install", "DESTDIR="+stage, "PREFIX=/opt/adit", "BINARY="+aditBin)
	for _, name := range []string{"bin/adit", "lib/systemd/system/adit-server.socket", "share/man/man1/adit.1", "share/man/man5/adit-client.toml.5",
		"share/bash-completion/completions/adit", "share/zsh/site-functions/_adit", "share/fish/vendor_completions.d/adit.fish"} {
		if info, err := os.Stat(filepath.Join(stage, "opt/adit", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, unit := range []string{"adit-server.service", "adit-server-standby.service", "adit-client@.service"} {
		if text := readFile(t, filepath.Join(stage, "opt/adit/lib/systemd/system", unit)); !strings.Contains(text, "\nExecStart=/opt/adit/bin/adit ") {
			t.Errorf("%s does not start the program that is installed", unit)
		}
	}
}

// unprivileged checks the privileges in a /proc/PID/status.
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

// restarted returns nil if the unit is active with another process than before.
func restarted(t *testing.T, m *booted, unit, before string) error {
	t.Helper()
	if state := m.show(t, unit, "ActiveState"); state != "active" {
		return fmt.Errorf("it is %s", state)
	}
	if pid := m.show(t, unit, "MainPID"); pid == before {
		return fmt.Errorf("it is still process %s", pid)
	}
	return nil
}

// accepts fails the test if nothing listens on addr. The fate of the connection does not matter.
func accepts(t *testing.T, m *host, addr string) {
	t.Helper()
	conn, err := m.dial(addr)
	if err == nil {
		conn.Close()
	} else if !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("nothing listens: %v", err)
	}
}

// echoBackend is an echo server that half-closes after its client.
func echoBackend(t *testing.T, l net.Listener) {
	t.Helper()
	serve(t, l, func(conn net.Conn) { copyBig(conn, conn) })
}

// echoes sends size bytes to the echo at addr and compares what returns.
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
	conn.Close() // unblocks the sender
	if err := <-sent; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if want := noiseDigest(uint64(size), size); got != want {
		return fmt.Errorf("what came back has the digest %s, want %s", got, want)
	}
	return nil
}

// repositoryRoot returns the directory of go.mod.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
