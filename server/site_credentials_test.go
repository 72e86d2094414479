package server

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/auth"
)

// The web server behind the site never gets a token, a subprotocol with a token or
// a ticket of this server, whatever the path; its own credentials do reach it.
func TestSiteBackendGetsNoCredentials(t *testing.T) {
	seen := make(chan string, 1)
	b := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		var text bytes.Buffer
		r.Write(&text)
		seen <- text.String()
		http.NotFound(w, r)
	})
	g := start(t, Config{Site: mustProxy(t, b.URL)}, Access{
		Users:  users(t, user("alice", "*:*"), user("bob")),
		Routes: []Route{{Path: "/bobs", Backends: []string{"127.0.0.1:1"}, Users: []string{"bob"}}},
	})
	ticket := g.tickets.make("bob", auth.Proof{}, routeID{path: "/bobs"}, time.Now().Add(time.Hour))
	for _, secret := range []string{"alice-token", "adit_removed-user", ticket} {
		for name, text := range map[string]string{
			"wrong path":                 upgrade("/wrong", "Authorization: Bearer "+secret),
			"page at a wrong path":       request("GET /wrong HTTP/1.1", "Authorization: Bearer "+secret),
			"page at the tunnel's path":  request("GET /tunnel HTTP/1.1", "Authorization: Bearer "+secret),
			"POST":                       request("POST /x HTTP/1.1", "Content-Length: 0", basic("alice", secret)),
			"route of another user":      upgrade("/bobs", "Authorization: Bearer "+secret),
			"two":                        upgrade("/bobs", "Authorization: Bearer "+secret, "Sec-WebSocket-Protocol: chat, adit.token."+secret),
			"subprotocol":                upgrade("/wrong", "Sec-WebSocket-Protocol: chat,adit.token."+secret+", other"),
			"subprotocol of the tunnel":  upgrade("/tunnel", "Sec-WebSocket-Protocol: adit.token."+secret),
			"ticket at a wrong path":     upgrade("/wrong?a=1&ticket=" + secret + "&b=%zz"),
			"ticket at the tunnel":       request("GET /tunnel?ticket=" + secret + " HTTP/1.1"),
			"escaped ticket":             request("GET /x?tic%6bet=" + strings.Replace(secret, "A", "%41", 1) + "&a=1 HTTP/1.1"),
			"old HTTP":                   request("GET /tunnel HTTP/1.0", basic("nobody", secret)),
			"request for a ticket":       request("POST /bobs/.ticket HTTP/1.1", "Content-Length: 0", "Authorization: Bearer "+secret),
			"ticket request, wrong path": request("GET /wrong/.ticket HTTP/1.1", "Authorization: Bearer "+secret),
		} {
			isTicket, inQuery := secret == ticket, strings.Contains(name, "ticket at") || name == "escaped ticket"
			if isTicket != inQuery && !strings.Contains(name, "subprotocol") {
				continue // it is not recognized there: it opens nothing
			}
			g.ask(t, text)
			got := <-seen
			if strings.Contains(got, secret) || strings.Contains(got, "adit.token.") || strings.Contains(got, "Authorization") {
				t.Errorf("%s: the site gets\n%s", name, got)
			}
			switch {
			case name == "subprotocol" && !strings.Contains(got, "Sec-Websocket-Protocol: chat, other\r\n"),
				name == "ticket at a wrong path" && !strings.Contains(got, "/wrong?a=1&b=%zz "),
				name == "escaped ticket" && !strings.Contains(got, "/x?a=1 "):
				t.Errorf("%s: the rest is lost:\n%s", name, got)
			}
		}
	}
	// What is the site's own.
	for _, text := range []string{
		request("GET /x?ticket=ST-1-abcdefghijklmnop HTTP/1.1", "Authorization: Bearer of-the-site"),
		request("GET /x?ticket=ST-1-abcdefghijklmnop HTTP/1.1", basic("alice", "password-of-the-site")),
		upgrade("/x?ticket=ST-1-abcdefghijklmnop", "Authorization: Bearer of-the-site", "Sec-WebSocket-Protocol: adit"),
	} {
		g.ask(t, text)
		if got := <-seen; !strings.Contains(got, "ticket=ST-1-abcdefghijklmnop") || !strings.Contains(got, "Authorization: ") {
			t.Errorf("the site's own credentials are lost:\n%s", got)
		}
	}
}
