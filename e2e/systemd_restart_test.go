//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	logged("reload failed")
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
