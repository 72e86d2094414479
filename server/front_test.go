package server

import (
	"strings"
	"testing"
)

// A proxy in front that loses Upgrade, as nginx does by default, or doubles a slash
// is named in the log, once, with the cure; the client sees a missing page.
func TestDamageByProxyInFront(t *testing.T) {
	b := accepting(t)
	g := start(t, Config{}, Access{Users: users(t, user("alice")), Routes: []Route{{Path: "/r", Backends: []string{b.addr}}}})
	key := upgradeFields[2:]
	for range 3 {
		for text, logged := range map[string]string{
			request("GET /r HTTP/1.0", key...):                                   "upgrade lost",
			request("GET /r/x HTTP/1.1", append(key, "Connection: close")...):    "upgrade lost",
			request("GET /tunnel HTTP/1.1", append(key, "Connection: close")...): "upgrade lost",
			upgrade("//r"):      "path not clean",
			upgrade("//tunnel"): "path not clean",
		} {
			if resp, _ := g.ask(t, text); resp.StatusCode != 404 {
				t.Errorf("%q: %s", text, resp.Status)
			}
			if l := g.log.Lines(logged); len(l) != 1 || !strings.Contains(l[0], "hint=") || !strings.Contains(l[0], "nginx") {
				t.Errorf("%q: %q", text, l)
			}
		}
	}
	g.front.upgrade.Store(0)
	g.front.slash.Store(0)
	// Nothing is wrong with these.
	g.ask(t, request("GET /r HTTP/1.1", "Connection: close"))
	g.ask(t, request("GET /nowhere HTTP/1.1", append(key, "Connection: close")...))
	g.ask(t, upgrade("//nowhere"))
	g.ask(t, upgrade("/tunnel"))
	g.ask(t, upgrade("/nowhere"))
	if a, b := g.log.Lines("upgrade lost"), g.log.Lines("path not clean"); len(a)+len(b) != 2 {
		t.Errorf("%q, %q", a, b)
	}
}

// A refused page tells what to list, or what to correct in a proxy that changes Host.
func TestRefusedOriginTellsTheCure(t *testing.T) {
	g := startRoutes(t, Route{Path: "/r", Backends: []string{"127.0.0.1:1"}}, Route{Path: "/l", Backends: []string{"127.0.0.1:1"}, Origins: []string{"https://a.test"}})
	for path, want := range map[string][]string{
		"/r": {`origins = [\"https://app.test\"]`, "proxy_set_header Host"},
		"/l": {`add \"https://app.test\" to the route's origins`},
	} {
		if resp, _ := g.ask(t, upgrade(path, "Origin: https://app.test")); resp.StatusCode != 403 {
			t.Error(resp.Status)
		}
		l := g.log.Lines("route refused", "route="+path)
		for _, text := range want {
			if len(l) != 1 || !strings.Contains(l[0], text) {
				t.Errorf("%s: %q", path, l)
			}
		}
	}
}
