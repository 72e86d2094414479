package server

import (
	"context"
	"crypto/x509"
	"testing"

	"adit/auth"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// twoWays starts a gateway whose user alice has a token and a certificate. change
// replaces alice.
func twoWays(t *testing.T) (g *gateway, change func(auth.User)) {
	t.Helper()
	echo := testnet.Echo(t)
	access := func(alice auth.User) Access {
		return Access{Users: users(t, alice, user("bob", "*:*")), Targets: map[string]string{"echo": echo}, Routes: []Route{
			{Path: "/r", Backends: []string{echo}, Users: []string{"bob"}},
			{Path: "/both", Backends: []string{echo}, Users: []string{"bob", alice.Name}},
			{Path: "/open", Backends: []string{echo}},
		}}
	}
	alice := auth.User{Name: "alice", TokenHashes: []string{auth.HashToken("alice-token")}, CertName: "alice.example", Allow: []string{"echo"}}
	g = start(t, Config{CertNames: func(c *x509.Certificate) []string { return c.DNSNames }}, access(alice))
	return g, func(alice auth.User) {
		t.Helper()
		alice.Allow = []string{"echo"}
		if err := g.SetAccess(access(alice)); err != nil {
			t.Fatal(err)
		}
	}
}

// aliceConn dials a connection for a session of alice.
func (g *gateway) aliceConn(t *testing.T, byCert bool) *ws.Conn {
	t.Helper()
	d := g.dialer("alice")
	if byCert {
		d = g.dialer("")
		d.TLS = d.TLS.Clone()
		d.TLS.Certificates = append(d.TLS.Certificates, g.ca.Issue(t, testnet.Leaf{Names: []string{"alice.example"}, Client: true}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	conn, err := dial.Dial(ctx, g.url(), d)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (g *gateway) aliceSession(t *testing.T, byCert bool) *mux.Session {
	t.Helper()
	m, err := mux.Client(t.Context(), g.aliceConn(t, byCert), &mux.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Replacing a credential ends the sessions that were opened with it, and no others;
// for a resumed session the last credential counts.
func TestReplacedCredentials(t *testing.T) {
	g, change := twoWays(t)
	byToken, byCert, moved := g.aliceSession(t, false), g.aliceSession(t, true), g.aliceSession(t, false)
	alive := map[*mux.Session]*mux.Stream{}
	for _, m := range []*mux.Session{byToken, byCert, moved} {
		alive[m] = mustOpen(t, m, named("echo"))
		mustEcho(t, alive[m])
	}
	if _, err := moved.Resume(t.Context(), g.aliceConn(t, true)); err != nil {
		t.Fatal(err)
	}
	g.log.Wait(t, 1, "link migrated")

	change(auth.User{Name: "alice", TokenHashes: []string{auth.HashToken("another")}, CertName: "alice.example"})
	wantRevoked(t, byToken)
	mustEcho(t, alive[byCert])
	mustEcho(t, alive[moved])
	if _, err := g.trySession(t, "alice"); err == nil {
		t.Error("a session with the old token")
	}
	change(auth.User{Name: "alice", TokenHashes: []string{auth.HashToken("another")}, CertName: "other.example"})
	wantRevoked(t, byCert)
	wantRevoked(t, moved)
	g.session(t, "bob")
}

// The same holds for connections of routes, also over HTTP/2 and with tickets.
func TestReplacedCredentialsOfRoutes(t *testing.T) {
	g, change := twoWays(t)
	cert := g.ca.Issue(t, testnet.Leaf{Names: []string{"alice.example"}, Client: true})
	byToken, byTicket := g.enter(t, "/both", bearer+"alice-token"), g.enter(t, "/both?ticket="+g.ticket(t, "/both", "alice"))
	byCert, bobs, anybodys := knockOn(t, g.dialTLS(t, cert), "/both"), g.enter(t, "/both", bearer+"bob-token"), g.enter(t, "/open")
	h2 := h2Knock(t, g.h2(t), "https://"+g.addr+"/both", map[string][]string{"Authorization": {"Bearer alice-token"}})
	alive := func(all ...*webSocket) {
		t.Helper()
		for _, ws := range all {
			ws.send(binMsg, "x")
			ws.want(binMsg, "x")
		}
	}
	alive(byToken, byTicket, byCert, bobs, anybodys, h2)

	change(auth.User{Name: "alice", TokenHashes: []string{auth.HashToken("another")}, CertName: "alice.example"})
	for _, ws := range []*webSocket{byToken, byTicket, h2} {
		ws.wantClose(1008, true)
	}
	alive(byCert, bobs, anybodys)
	change(auth.User{Name: "carol", TokenHashes: []string{auth.HashToken("carol-token")}})
	byCert.wantClose(1008, true)
	alive(bobs, anybodys)
	for _, ws := range []*webSocket{bobs, anybodys} {
		ws.send(closeF, "")
		ws.wantClose(0, false)
	}
	eventually(t, "no connection is kept for review", func() bool {
		g.routes.mu.Lock()
		defer g.routes.mu.Unlock()
		return len(g.routes.userConns) == 0
	})
}
