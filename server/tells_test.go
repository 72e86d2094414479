package server

import (
	"crypto/tls"
	"strings"
	"testing"
)

// What tells adit from another web server is what docs/security.md says, and no more.
func TestTellsOfTheServer(t *testing.T) {
	u := users(t, user("alice", "*:*"))
	g := start(t, Config{}, Access{Users: u})
	if resp, _ := g.ask(t, request("GET / HTTP/1.1", "Authorization: Bearer a", "Authorization: Bearer b")); resp.StatusCode != 400 {
		t.Errorf("two Authorization: %s", resp.Status)
	}
	// HTTP/2 is offered only with routes.
	for _, routes := range [][]Route{nil, {{Path: "/r", Backends: []string{"127.0.0.1:1"}}}} {
		g := start(t, Config{}, Access{Users: u, Routes: routes})
		config := g.ca.ClientConfig()
		config.ServerName, config.NextProtos = "localhost", []string{"h2"}
		c, err := tls.Dial("tcp", g.addr, config)
		if (err == nil) != (routes != nil) {
			t.Errorf("%d routes: %v", len(routes), err)
		}
		if err == nil {
			c.Close()
		}
	}
	_, page := g.ask(t, request("GET / HTTP/1.1", "Connection: close"))
	if strings.Contains(strings.ToLower(page), "adit") {
		t.Errorf("the default page names its server:\n%s", page)
	}
}
