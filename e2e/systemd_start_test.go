//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

// checkWithCredentials runs the commands of docs/packages.md that check a configuration with the
// paths of the service's own credentials.
func (m *installed) checkWithCredentials(t *testing.T) {
	commands := regexp.MustCompile("(?s)```sh\n(systemd-run .*?)```").FindAllStringSubmatch(readFile(t, filepath.Join("..", "docs", "packages.md")), -1)
	if len(commands) != 2 {
		t.Fatalf("docs/packages.md has %d such commands, want 2", len(commands))
	}
	ofTest := strings.NewReplacer("client.toml", "test.toml", "client.credentials", "test.credentials", "@client", "@test")
	for _, c := range commands {
		command := ofTest.Replace(c[1])
		m.run(t, "sh", "-c", command)
		// The same file for another unit: its credentials are not there.
		wrong := regexp.MustCompile(`:/run/credentials/\S+`).ReplaceAllString(command, ":/run/credentials/other.service")
		if out, err := m.try(t, "sh", "-c", wrong); err == nil || !strings.Contains(out+err.Error(), "/run/credentials/") {
			t.Errorf("with the credentials of another unit: %v, %s", err, out)
		}
	}
	if state := m.show(t, serverUnit, "ActiveState"); state != "inactive" {
		t.Errorf("the check starts the server: %s", state)
	}
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
		t.Error("the client was restarted meanwhile")
	}
	m.run(t, "systemctl", "stop", unit)
}
