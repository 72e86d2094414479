//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A client whose machine changes its address, like a roaming laptop, or loses its network for a
// while reconnects by itself, and its streams continue.
func TestAddressChange(t *testing.T) {
	g := newGateway(t, (*backends).startBulk)
	l := newLine(t, g.host)
	l.firewall(t, only443)
	l.client.addName(t, gatewayName, gatewayAddr)
	g.serve(t, nil)
	c, user := g.connect(t, l.client, "")
	c.wait(t, linkUp, 1)
	user.use(t)
	all, err := user.ask("echo\n")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	all.SetDeadline(time.Now().Add(10 * time.Minute))
	goesOn := func() {
		t.Helper()
		passByte(t, all, all)
		user.use(t)
	}

	// Lose the network and get it back with another address.
	losses, returns := c.count(linkLost), c.count(linkResumed)
	l.client.ip(t, "addr del "+clientAddr+"/24 dev eth0")
	l.client.ip(t, "link set eth0 down")
	c.waitWithin(t, 2*time.Minute, linkLost, losses+1)
	l.attachClient(t, "10.77.1.77")
	c.wait(t, linkResumed, returns+1)
	goesOn()

	// Change the address at once: packets of the old connection are lost.
	changes := c.count(linkResumed + "|" + linkMigrated)
	l.client.ip(t, "addr flush dev eth0")
	l.attachClient(t, "10.77.1.78")
	c.waitWithin(t, 2*time.Minute, linkResumed+"|"+linkMigrated, changes+1)
	goesOn()

	// The network drops all packets for a while; nothing changes at the client.
	losses, returns = c.count(linkLost), c.count(linkResumed)
	l.firewall(t, "add chain inet wall swallow { type filter hook prerouting priority 0; policy drop; }\n")
	c.waitWithin(t, 2*time.Minute, linkLost, losses+1)
	l.firewall(t, only443)
	c.wait(t, linkResumed, returns+1)
	goesOn()
	if n := c.count(linkDown); n != 0 {
		t.Errorf("the session ended %d times", n)
	}
}

// use sends data through the tunnel.
func (u *tunnelUser) use(t *testing.T) {
	t.Helper()
	if err := u.echo(5, 1<<20); err != nil {
		t.Fatal(err)
	}
}

// A client that starts before its machine can resolve names, as at boot, connects once it can.
func TestStartBeforeDNS(t *testing.T) {
	need(t, "dnsmasq")
	g := newGateway(t, (*backends).startBulk)
	l := newLine(t, g.host)
	l.firewall(t, only443+dnsToWall)
	g.serve(t, nil)
	c, user := g.connect(t, l.client, "")
	// The failure is logged.
	c.wait(t, `(?i)(DNS|lookup).*`+gatewayName, 1)
	if c.count(linkUp) != 0 {
		t.Fatal("the client has a link without DNS")
	}

	const addr = middleAddr
	d := l.middle.start(t, "dnsmasq", spec{argv: []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file",
		"--no-resolv", "--no-hosts", "--listen-address=" + addr, "--bind-interfaces", "--log-facility=-",
		fmt.Sprintf("--address=/%s/%s", gatewayName, gatewayAddr)}})
	d.awaitPort(t, l.middle, addr+":53")
	if err := os.WriteFile(filepath.Join(l.client.etc, "resolv.conf"), []byte("nameserver "+addr+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.waitWithin(t, 2*time.Minute, linkUp, 1)
	user.use(t)
}
