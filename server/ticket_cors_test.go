package server

import (
	"strings"
	"testing"
)

// A page of a listed origin can request a ticket with its token; others see a
// missing page, or cannot read the answer.
func TestTicketForPageOfListedOrigin(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice")), Routes: []Route{
		{Path: "/r", Backends: []string{"127.0.0.1:1"}, Users: []string{"alice"}, Origins: []string{"https://app.test"}},
		{Path: "/open", Backends: []string{"127.0.0.1:1"}, Origins: []string{"https://app.test"}},
	}})
	ask := func(method, path, origin string, fields ...string) (status int, allowed string) {
		t.Helper()
		resp, raw := g.ask(t, request(method+" "+path+" HTTP/1.1", append(fields, "Origin: "+origin, "Content-Length: 0")...))
		if strings.Contains(raw, "Allow-Credentials") {
			t.Error(raw)
		}
		return resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin")
	}
	const preflight = "Access-Control-Request-Method: POST"
	if status, allowed := ask("OPTIONS", "/r/.ticket", "https://app.test", preflight); status != 204 || allowed != "https://app.test" {
		t.Errorf("%d, %q", status, allowed)
	}
	if status, allowed := ask("POST", "/r/.ticket", "https://app.test", "Authorization: Bearer alice-token"); status != 200 || allowed != "https://app.test" {
		t.Errorf("%d, %q", status, allowed)
	}
	if status, allowed := ask("POST", "/r/.ticket", "https://evil.test", "Authorization: Bearer alice-token"); status != 403 || allowed != "" {
		t.Errorf("%d, %q", status, allowed)
	}
	missing, _ := ask("OPTIONS", "/nowhere", "https://app.test", preflight)
	for path, origin := range map[string]string{"/r/.ticket": "https://evil.test", "/open/.ticket": "https://app.test", "/r/x/.ticket": "https://app.test", "/r": "https://app.test"} {
		if status, allowed := ask("OPTIONS", path, origin, preflight); status != missing || allowed != "" {
			t.Errorf("%s from %s: %d, %q", path, origin, status, allowed)
		}
	}
}

// A withdrawn server is not ready, so that a load balancer turns away, and serves
// those who still come.
func TestWithdrawnServerServes(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	eventually(t, "it is ready", func() bool { return g.Ready() == nil })
	g.Withdraw()
	if g.Ready() == nil {
		t.Error("it is ready")
	}
	g.session(t, "alice")
}
