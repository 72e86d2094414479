//go:build linux

package e2e

import (
	"strings"
	"testing"
)

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
	if !strings.Contains(out, standbyUnit+" runs in its place") {
		t.Errorf("dpkg does not say that the second server runs:\n%s", out)
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
	// It works with the kept configuration.
	m.tunnelIsBack(t)
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
