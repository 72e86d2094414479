//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A scenario is a kind of path from a client to the gateway. All uses of the tunnel must work on
// each.
type scenario struct {
	name   string
	rules  string                                   // what the firewall accepts from the client
	open   string                                   // the only one of wallProbes that is reachable
	proxy  func(t *testing.T, l *line) (url string) // nil: none
	front  front                                    // nil: the server takes TLS itself
	amount int64                                    // bytes of bulk data each way
}

var scenarios = []scenario{
	{name: "squid", rules: only3128, open: middleAddr + ":3128", proxy: squid, amount: 1 << 30},
	{name: "firewall", rules: only443, open: gatewayAddr + ":443", amount: 64 << 20},
	{name: "socks", rules: only1080, open: middleAddr + ":1080", proxy: socks, amount: 64 << 20},
	{name: "nginx", rules: only443, open: gatewayAddr + ":443", front: nginxFront, amount: 64 << 20},
	{name: "haproxy", rules: only443, open: gatewayAddr + ":443", front: haproxyFront, amount: 64 << 20},
	{name: "apache", rules: only443, open: gatewayAddr + ":443", front: apacheFront, amount: 64 << 20},
	{name: "apache-wstunnel", rules: only443, open: gatewayAddr + ":443", front: apacheWstunnelFront, amount: 64 << 20},
}

// wallProbes are addresses that the client tries to reach. All those of the gateway accept
// connections.
var wallProbes = []string{gatewayAddr + ":443", gatewayAddr + ":8443", middleAddr + ":3128", middleAddr + ":1080", middleAddr + ":8080"}

func TestPaths(t *testing.T) {
	g := newGateway(t, allBackends...)
	// This listener proves that it is the firewall that makes other ports unreachable.
	g.host.listen(t, "0.0.0.0:8443")
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, g) })
	}
}

func (s scenario) run(t *testing.T, g *gateway) {
	l := newLine(t, g.host)
	l.firewall(t, s.rules)
	g.serve(t, s.front)
	proxy := ""
	if s.proxy != nil {
		// Only the proxy can resolve the gateway's name.
		proxy = s.proxy(t, l)
	} else {
		l.client.addName(t, gatewayName, gatewayAddr)
	}
	l.checkWall(t, s.open)

	c, user := g.connect(t, l.client, proxy)
	c.wait(t, linkUp, 1)
	amount := s.amount
	if testing.Short() {
		amount = min(amount, 16<<20)
	}
	t.Run("ssh", user.sshFiles)
	t.Run("ssh-proxycommand", user.sshProxyCommand)
	t.Run("psql", user.psql)
	t.Run("redis", user.redis)
	t.Run("json", user.json)
	t.Run("bulk", func(t *testing.T) { user.bulk(t, amount) })
	t.Run("200-streams", user.manyStreams)
	if outside := l.client.run(t, "", "ss", "-Htn", "state", "established", "not", "dst", "127.0.0.1"); strings.Count(outside, "\n") != 1 {
		t.Errorf("the client holds these connections to the outside, want one:\n%s", outside)
	}
	if n := c.count(linkDown); n != 0 {
		t.Errorf("the session ended %d times", n)
	}
}

// checkWall checks that the client reaches open and none of the other wallProbes.
func (l *line) checkWall(t *testing.T, open string) {
	t.Helper()
	if !slices.Contains(wallProbes, open) {
		t.Fatalf("%s is not in wallProbes", open)
	}
	for _, addr := range wallProbes {
		within := patience
		if addr != open {
			// Dropped packets cause no error.
			within = 300 * time.Millisecond
		}
		conn, err := l.client.dialWithin(within, addr)
		if err == nil {
			conn.Close()
		}
		if reached := err == nil; reached != (addr == open) {
			t.Fatalf("the client reaches %s: %v (%v); only %s should be open", addr, reached, err, open)
		}
	}
}
