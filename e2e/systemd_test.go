//go:build linux

package e2e

import (
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		{"the documented check, before the first start", (*installed).checkWithCredentials},
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
	// This unblocks the sender.
	conn.Close()
	if err := <-sent; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if want := noiseDigest(uint64(size), size); got != want {
		return fmt.Errorf("what came back has the digest %s, want %s", got, want)
	}
	return nil
}
