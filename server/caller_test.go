package server

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/auth"
	"adit/internal/testnet"
)

// authGateway has routes for alice, for bob, for both and for everybody.
func authGateway(t *testing.T, cfg Config) *gateway {
	t.Helper()
	echo := []string{testnet.Echo(t)}
	cfg.CertNames = func(c *x509.Certificate) []string { return c.DNSNames }
	carol := auth.User{Name: "carol", CertName: "carol.example"}
	return start(t, cfg, Access{Users: users(t, user("alice"), user("bob"), carol), Routes: []Route{
		{Path: "/alice", Backends: echo, Users: []string{"alice"}},
		{Path: "/bob", Backends: echo, Users: []string{"bob"}},
		{Path: "/both", Backends: echo, Users: []string{"alice", "bob", "carol"}},
		{Path: "/all", Backends: echo},
		{Path: "/listed", Backends: echo, Users: []string{"alice", "carol"}, Origins: []string{"https://app.example"}},
	}})
}

func (g *gateway) ticket(t *testing.T, path, user string) string {
	t.Helper()
	resp, _ := g.ask(t, request("POST "+path+"/.ticket HTTP/1.1", "Authorization: Bearer "+user+"-token"))
	var answer struct {
		Ticket  string
		Expires time.Time
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s for a ticket, %v", resp.Status, err)
	}
	if until := time.Until(answer.Expires); until > 61*time.Second || until < 30*time.Second {
		t.Errorf("the ticket expires in %v", until)
	}
	return answer.Ticket
}

const bearer = "Authorization: Bearer "

func proto(offered string) string { return "Sec-WebSocket-Protocol: " + offered }

func TestWhoMayUseARoute(t *testing.T) {
	g := authGateway(t, Config{})
	alices := g.ticket(t, "/alice", "alice")
	both := g.ticket(t, "/both", "alice")
	tests := []struct {
		name, path string
		fields     []string
		status     int
		chosen     string
	}{
		{"token", "/alice", []string{bearer + "alice-token"}, 101, ""},
		{"below", "/alice/x", []string{bearer + "alice-token"}, 101, ""},
		{"Basic", "/alice", []string{basic("alice", "alice-token")}, 101, ""},
		{"another's route", "/bob", []string{bearer + "alice-token"}, 404, ""},
		{"shared", "/both", []string{bearer + "bob-token"}, 101, ""},
		{"nothing", "/alice", nil, 404, ""},
		{"wrong token", "/alice", []string{bearer + "x"}, 404, ""},
		{"two credentials", "/alice", []string{bearer + "alice-token", bearer + "alice-token"}, 400, ""},
		{"open", "/all", nil, 101, ""},
		{"open, wrong token", "/all", []string{bearer + "x"}, 101, ""},

		{"subprotocol", "/alice", []string{proto("binary, adit.token.alice-token")}, 101, "binary"},
		{"subprotocol first", "/alice", []string{proto("adit.token.alice-token, binary")}, 101, "binary"},
		{"subprotocol, two fields", "/alice", []string{proto("adit.token.alice-token"), proto("base64")}, 101, "base64"},
		{"subprotocol, the neutral one", "/alice", []string{proto("adit, adit.token.alice-token")}, 101, "adit"},
		{"subprotocol alone", "/alice", []string{proto("adit.token.alice-token")}, 101, ""},
		{"subprotocol, wrong", "/alice", []string{proto("binary, adit.token.x")}, 404, ""},
		{"subprotocol, another's", "/bob", []string{proto("binary, adit.token.alice-token")}, 404, ""},
		{"subprotocol, two tokens", "/alice", []string{proto("adit.token.alice-token, adit.token.alice-token")}, 404, ""},
		{"subprotocol and header", "/alice", []string{proto("adit.token.alice-token"), bearer + "alice-token"}, 404, ""},
		{"subprotocol in the tunnel", "/tunnel", []string{proto("binary, adit.token.alice-token")}, 404, ""},

		{"ticket", "/alice?ticket=" + alices, nil, 101, ""},
		{"ticket again, below", "/alice/x?a=b&ticket=" + alices, nil, 101, ""},
		{"ticket, shared route", "/both?ticket=" + both, nil, 101, ""},
		{"ticket of another route", "/alice?ticket=" + both, nil, 404, ""},
		{"ticket of another route of hers", "/both?ticket=" + alices, nil, 404, ""},
		{"ticket in the tunnel", "/tunnel?ticket=" + alices, nil, 404, ""},
		{"ticket, one bit off", "/alice?ticket=" + flip(alices), nil, 404, ""},
		{"ticket, cut", "/alice?ticket=" + alices[:len(alices)-1], nil, 404, ""},
		{"ticket, empty", "/alice?ticket=", nil, 404, ""},
		{"ticket, twice", "/alice?ticket=" + alices + "&ticket=" + alices, nil, 404, ""},
		{"ticket and header", "/alice?ticket=" + alices, []string{bearer + "alice-token"}, 404, ""},

		{"foreign page", "/alice?ticket=" + alices, []string{"Origin: https://evil.example"}, 403, ""},
		{"own page", "/alice?ticket=" + alices, []string{"Origin: https://gw.test"}, 101, ""},
		{"foreign page, token", "/alice", []string{bearer + "alice-token", "Origin: https://evil.example"}, 403, ""},
		{"foreign page, nobody", "/alice", []string{"Origin: https://evil.example"}, 404, ""},
		{"foreign page, open", "/all", []string{"Origin: https://evil.example"}, 403, ""},
		{"listed page", "/listed", []string{bearer + "alice-token", "Origin: https://app.example"}, 101, ""},
		{"own page is not listed", "/listed", []string{bearer + "alice-token", "Origin: https://gw.test"}, 403, ""},
		{"no page, header", "/listed", []string{bearer + "alice-token"}, 101, ""},
		{"no page, token for pages", "/listed", []string{proto("adit.token.alice-token")}, 101, ""},
		{"no page, Basic", "/listed", []string{basic("alice", "alice-token")}, 101, ""},
		{"no page, Basic that a browser remembers", "/listed", []string{basic("alice", "alice-token"), "User-Agent: Mozilla/5.0 (X11)"}, 403, ""},
		{"hidden page, Basic that a browser remembers", "/alice", []string{basic("alice", "alice-token"), "User-Agent: Mozilla/5.0 (X11)"}, 403, ""},
		{"page, Basic that a browser remembers", "/alice", []string{basic("alice", "alice-token"), "User-Agent: Mozilla/5.0 (X11)", "Origin: https://gw.test"}, 101, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ws := g.knock(t, test.path, test.fields...)
			if ws.resp.StatusCode != test.status {
				t.Fatalf("%s, want %d", ws.resp.Status, test.status)
			}
			if got := ws.resp.Header.Get("Sec-WebSocket-Protocol"); got != test.chosen {
				t.Errorf("subprotocol %q, want %q", got, test.chosen)
			}
			if test.status == 101 && test.chosen != "base64" {
				ws.send(binMsg, "x")
				ws.want(binMsg, "x")
			}
			ws.Conn.Close()
		})
	}
	for _, secret := range []string{"alice-token", alices, both, "ticket="} {
		if lines := g.log.Lines(secret); len(lines) > 0 {
			t.Errorf("the log has secrets: %s", lines)
		}
	}
	g.quiet(t)
}

func flip(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

func TestCertificateOpensARoute(t *testing.T) {
	g := authGateway(t, Config{})
	carol := g.ca.Issue(t, testnet.Leaf{Names: []string{"carol.example"}, Client: true})
	for path, status := range map[string]int{"/both": 101, "/alice": 404, "/both?ticket=" + g.ticket(t, "/both", "alice"): 404} {
		if ws := knockOn(t, g.dialTLS(t, carol), path); ws.resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", path, ws.resp.Status, status)
		}
	}
	// A browser sends its certificate for every page: the Origin decides.
	if ws := knockOn(t, g.dialTLS(t, carol), "/both", "Origin: https://evil.example"); ws.resp.StatusCode != 403 {
		t.Errorf("foreign page with a certificate: %s", ws.resp.Status)
	}
	if ws := knockOn(t, g.dialTLS(t, carol), "/listed"); ws.resp.StatusCode != 403 {
		t.Errorf("no page with a certificate, where there is a list: %s", ws.resp.Status)
	}
}

// An unauthenticated client gets the same bytes from a route with users, and from
// the path of its tickets, as from a missing page.
func TestUnauthenticatedClientSeesNoRoute(t *testing.T) {
	for name, site := range sites(t) {
		t.Run(name, func(t *testing.T) {
			g := authGateway(t, Config{Site: site})
			for _, fields := range [][]string{nil, {bearer + "x"}, {basic("alice", "x")}, {proto("binary, adit.token.x")}, {"Origin: https://evil.example"}, {bearer + "bob-token"}} {
				for _, text := range []string{"GET", "POST", "upgrade"} {
					ask := func(path string) string {
						if text == "upgrade" {
							_, raw := g.ask(t, upgrade(path, fields...))
							return raw
						}
						_, raw := g.ask(t, request(text+" "+path+" HTTP/1.1", fields...))
						return raw
					}
					missing := ask("/missing")
					for _, path := range []string{"/alice", "/alice/", "/alice/x", "/alice/.ticket", "/alice?ticket=x"} {
						if got := ask(path); got != missing {
							t.Errorf("%s %s with %q:\n%s\nnot as a missing page:\n%s", text, path, fields, got, missing)
						}
					}
				}
			}
		})
	}
}

func TestTickets(t *testing.T) {
	g := authGateway(t, Config{})
	good := bearer + "alice-token"
	for text, status := range map[string]int{
		request("GET /alice/.ticket HTTP/1.1", good):                                         200,
		request("HEAD /alice/.ticket HTTP/1.1", good):                                        404,
		request("GET /alice/x/.ticket HTTP/1.1", good):                                       404,
		request("GET /alice/.ticket/ HTTP/1.1", good):                                        404,
		request("GET /bob/.ticket HTTP/1.1", good):                                           404,
		request("GET /all/.ticket HTTP/1.1", good):                                           404,
		request("GET /.ticket HTTP/1.1", good):                                               404,
		request("GET /alice/.ticket?ticket=" + g.ticket(t, "/alice", "alice") + " HTTP/1.1"): 404,
		request("GET /alice/.ticket HTTP/1.1", good, "Origin: https://evil.example"):         403,
		request("GET /alice/.ticket HTTP/1.1", good, "Origin: https://gw.test"):              200,
		request("GET /alice/.ticket HTTP/1.1", proto("adit.token.alice-token")):              404,
	} {
		resp, _ := g.ask(t, text)
		if resp.StatusCode != status {
			t.Errorf("%q: %s, want %d", text, resp.Status, status)
		}
	}
	ticket := g.ticket(t, "/alice", "alice")
	// A ticket ends with its user, and with the token for which it was issued.
	other := user("alice")
	other.TokenHashes = []string{auth.HashToken("another")}
	for what, now := range map[string]auth.User{"user who is gone": user("bob"), "token that is gone": other} {
		a := Access{Users: users(t, now), Routes: []Route{{Path: "/alice", Backends: []string{"127.0.0.1:1"}, Users: []string{now.Name}}}}
		if err := g.SetAccess(a); err != nil {
			t.Fatal(err)
		}
		if ws := g.knock(t, "/alice?ticket="+ticket); ws.resp.StatusCode != http.StatusNotFound {
			t.Errorf("ticket of a %s: %s", what, ws.resp.Status)
		}
	}
}

func TestTicketCheck(t *testing.T) {
	k, other := newTicketKey(), newTicketKey()
	now := time.Now()
	id := routeID{"", "/a", false}
	good := k.make("alice", auth.Proof{7}, id, now.Add(time.Minute))
	for name, test := range map[string]struct {
		key    *ticketKey
		ticket string
		id     routeID
		at     time.Time
		want   error
	}{
		"good":          {&k, good, id, now, nil},
		"at the end":    {&k, good, id, now.Add(58 * time.Second), nil},
		"expired":       {&k, good, id, now.Add(time.Minute), errTicketExpired},
		"another key":   {&other, good, id, now, errTicketForged},
		"another path":  {&k, good, routeID{"", "/ab", false}, now, errTicketForged},
		"another host":  {&k, good, routeID{"h", "/a", false}, now, errTicketForged},
		"exact":         {&k, good, routeID{"", "/a", true}, now, errTicketForged},
		"host and path": {&k, k.make("alice", auth.Proof{7}, routeID{"h", "/a", false}, now.Add(time.Minute)), routeID{"", "h/a", false}, now, errTicketForged},
		"empty":         {&k, "", id, now, errTicketForged},
		"long":          {&k, strings.Repeat("A", 10000), id, now, errTicketForged},
	} {
		user, proof, err := test.key.check(test.ticket, test.id, test.at)
		if err != test.want || err == nil && (user != "alice" || proof != auth.Proof{7}) {
			t.Errorf("%s: %q, %v, %v", name, user, proof, err)
		}
	}
}

func FuzzTicket(f *testing.F) {
	var k ticketKey
	id := routeID{"", "/a", false}
	good := k.make("alice", auth.Proof{7}, id, time.Unix(1<<40, 0))
	f.Add(good)
	f.Add(flip(good))
	f.Fuzz(func(t *testing.T, ticket string) {
		if user, _, err := k.check(ticket, id, time.Now()); err == nil && (ticket != good || user != "alice") {
			t.Errorf("%q is a ticket of %q", ticket, user)
		}
	})
}
