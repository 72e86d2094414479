package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/auth"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
)

func TestStatus(t *testing.T) {
	limited := user("bob", "*:*")
	limited.MaxSessions = 1
	list := users(t, user("alice", "127.0.0.1:*"), limited)
	access := Access{Users: list}
	g := start(t, Config{}, access)
	eventually(t, "it serves", func() bool { return g.Ready() == nil })
	if st := g.Status(); len(st.Sessions) != 0 || len(st.Listeners) != 1 || !st.Listeners[0].TLS || st.Listeners[0].Address != g.addr {
		t.Errorf("at first %+v", st)
	}
	m := g.session(t, "alice")
	echo := tcp(testnet.Echo(t))
	st := mustOpen(t, m, echo)
	mustEcho(t, st) // ends it
	st.Close()
	eventually(t, "the stream is gone", func() bool { return g.numStreams() == 0 })
	wantCode(t, m, tcp("192.0.2.1:1"), mux.Forbidden)
	wantCode(t, m, tcp(testnet.RefusedAddr(t)), mux.Refused)
	eventually(t, "the streams are gone", func() bool { return g.numStreams() == 0 })
	open := mustOpen(t, m, echo)

	now := g.Status()
	if len(now.Sessions) != 1 {
		t.Fatalf("%d sessions", len(now.Sessions))
	}
	x := now.Sessions[0]
	if x.User != "alice" || x.ID == "" || x.Address == "" || !x.Connected || x.Streams != 1 || x.Received == 0 || x.Sent == 0 || x.Opened.IsZero() || x.Since.IsZero() {
		t.Errorf("%+v", x)
	}
	counts := now.Counts
	if counts.SessionsOpened != 1 || counts.StreamsOpened != 2 || counts.StreamsRefused["forbidden"] != 1 || counts.StreamsRefused["refused"] != 1 {
		t.Errorf("%+v", counts)
	}
	if by := counts.StreamsRefusedByUser["alice"]; by["forbidden"] != 1 || by["refused"] != 1 || by["busy"] != 0 {
		t.Errorf("%+v", by)
	}
	if d := counts.TargetDials; d["connected"].Count != 2 || d["forbidden"].Count != 1 || d["connected"].Sum <= 0 {
		t.Errorf("%+v", d)
	}

	// A session over the limit, and a wrong token.
	g.session(t, "bob")
	if _, err := g.trySession(t, "bob"); err == nil {
		t.Error("a second session of a user who may have one")
	}
	if _, err := g.trySession(t, "mallory"); err == nil {
		t.Error("a session of nobody")
	}
	counts = g.Status().Counts
	if counts.SessionsRefused["limit"] != 1 || counts.HandshakeFailures["authentication"] != 1 || counts.SessionsOpened != 2 {
		t.Errorf("%+v", counts)
	}

	// The traffic of ended sessions is kept, and counts never decrease.
	before := g.Status().Counts.Users["alice"]
	open.Close()
	access.Users = users(t, limited)
	if err := g.SetAccess(access); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session has ended", func() bool { return g.Status().Counts.SessionsEnded["revoked"] == 1 })
	after := g.Status()
	if a := after.Counts.Users["alice"]; a.Received < before.Received || a.Sent < before.Sent || len(after.Sessions) != 1 {
		t.Errorf("before the end %+v, after it %+v", before, a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Shutdown(ctx)
	if st := g.Status(); !st.Draining || len(st.Sessions) != 0 || st.Counts.SessionsEnded["stopping"] != 1 {
		t.Errorf("after the end %+v", st)
	}
	if err := g.Ready(); err == nil || err.Error() != "the server is stopping" {
		t.Errorf("ready after the end: %v", err)
	}
}

func TestRouteStatus(t *testing.T) {
	echo, dead := testnet.Echo(t), testnet.RefusedAddr(t)
	access := Access{Users: users(t, user("alice")), Routes: []Route{
		{Path: "/echo", Backends: []string{echo}}, {Path: "/dead", Backends: []string{dead}}, {Path: "/mine", Backends: []string{echo}, Users: []string{"alice"}},
	}}
	g := start(t, Config{}, access)
	find := func(name string) RouteStatus {
		for _, r := range g.Status().Routes {
			if r.Route == name {
				return r
			}
		}
		t.Fatalf("there is no %s", name)
		return RouteStatus{}
	}
	dial := func(path string) error {
		ctx, cancel := context.WithTimeout(t.Context(), watchdog)
		defer cancel()
		conn, err := dial.Dial(ctx, "wss://"+g.addr+path, g.dialer(""))
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.CloseNow() })
		if err := conn.WriteMessage(2, []byte("hello")); err != nil {
			return err
		}
		if _, err := conn.NextMessage(); err != nil {
			return err
		}
		if find("/echo").Connections == 0 {
			return errors.New("the connection is not counted")
		}
		return conn.Close(1000, "")
	}
	if err := dial("/echo"); err != nil {
		t.Fatal(err)
	}
	if dial("/dead") == nil {
		t.Error("a backend that is not there answers")
	}
	eventually(t, "the connection has ended", func() bool { return find("/echo").Connections == 0 })
	// A reload keeps the counts.
	if err := g.SetAccess(access); err != nil {
		t.Fatal(err)
	}
	if r := find("/echo"); r.Opened != 1 || r.Received != 5 || r.Sent != 5 || len(r.Backends) != 1 || r.Backends[0].Name != echo {
		t.Errorf("%+v", r)
	}
	if r := find("/dead"); r.Refused["backend"] != 1 || r.Opened != 0 {
		t.Errorf("%+v", r)
	}
	if r := find("/mine"); fmt.Sprint(r.Users) != "[alice]" {
		t.Errorf("%+v", r)
	}
	if d := g.Status().Counts.RouteDials; d["connected"].Count != 1 || d["refused"].Count != 1 {
		t.Errorf("%+v", d)
	}
}

func TestEndName(t *testing.T) {
	for _, c := range []struct {
		err               error
		revoked, stopping bool
		want              string
	}{
		{&mux.ClosedError{}, false, true, "client"},
		{&mux.ClosedError{Code: mux.CloseProtocol}, false, false, "protocol"},
		{fmt.Errorf("%w: away", mux.ErrLinkLost), false, false, "lost"},
		{fmt.Errorf("%w: frame", mux.ErrProtocol), false, true, "protocol"},
		{errors.New("closed here"), true, false, "revoked"},
		{errors.New("closed here"), false, true, "stopping"},
		{errors.New("closed here"), false, false, "other"},
	} {
		if got := endName(c.err, c.revoked, c.stopping); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
	refused := newCounters()
	refused.addSessionRefused(reasonStopping)
	refused.addSessionRefused("too many")
	if got := refused.sessionsRefused.Counts(); got["stopping"] != 1 || got["limit"] != 1 {
		t.Errorf("refusals: %v", got)
	}
	for status, want := range map[int]string{http.StatusForbidden: "origin", http.StatusGatewayTimeout: "timeout"} {
		if routeRefusals[status] != want {
			t.Errorf("%d: %s", status, routeRefusals[status])
		}
	}
	if dialResult(errors.New("x"), true) != "cancelled" || dialResult(nil, true) != "connected" {
		t.Error("results of dials")
	}
	s, err := New(Config{}, Access{Users: users(t, auth.User{Name: "a", CertName: "a"})})
	if err != nil {
		t.Fatal(err)
	}
	s.counters.addRejected(auth.ErrNoCredentials)
	s.counters.addRejected(fmt.Errorf("%w: %w", auth.ErrRejected, auth.ErrThrottled))
	if got := s.Status().Counts.HandshakeFailures; got["throttled"] != 1 || got["authentication"] != 0 || got["other"] != 0 {
		t.Errorf("%v", got)
	}
}

// The streams of a named target are counted under its name. Names that nobody
// configured are not counted, so that clients cannot make the counts grow.
func TestStreamsOfNamedTargetsAreCounted(t *testing.T) {
	named := func(name string) mux.Target { return mux.Target{Kind: mux.Named, Address: name} }
	g := start(t, Config{}, Access{
		Users:   users(t, user("alice", "echo", "down")),
		Targets: map[string]string{"echo": testnet.Echo(t), "down": testnet.RefusedAddr(t), "secret": "127.0.0.1:1"},
	})
	m := g.session(t, "alice")
	mustOpen(t, m, named("echo")).Close()
	wantCode(t, m, named("down"), mux.Refused)
	wantCode(t, m, named("secret"), mux.Forbidden)
	wantCode(t, m, named("none"), mux.Forbidden)
	eventually(t, "the streams are gone", func() bool { return g.numStreams() == 0 })
	got := g.Status().Targets
	if len(got) != 3 || got[0].Name != "down" || got[0].Refused["refused"] != 1 || got[1].Name != "echo" || got[1].Opened != 1 || got[1].Refused["refused"] != 0 || got[2].Refused["forbidden"] != 1 {
		t.Errorf("%+v", got)
	}
}

// Tickets are counted when they are issued and when they are shown.
func TestTicketsAreCounted(t *testing.T) {
	g := start(t, Config{}, Access{
		Users:  users(t, user("alice")),
		Routes: []Route{{Path: "/alice", Backends: []string{testnet.Echo(t)}, Users: []string{"alice"}}},
	})
	ticket := g.ticket(t, "/alice", "alice")
	g.ask(t, upgrade("/alice?ticket="+ticket))
	g.ask(t, upgrade("/alice?ticket="+ticket[:len(ticket)-1]))
	g.ask(t, upgrade("/alice?ticket="+g.tickets.make("alice", auth.Proof{}, routeID{path: "/alice"}, time.Now())))
	got := g.Status().Counts.Tickets
	for _, event := range []string{"issued", "accepted", "rejected", "expired"} {
		if got[event] != 1 {
			t.Errorf("%s: %d of %v", event, got[event], got)
		}
	}
}

// A client with valid credentials and a wrong path has a log line that says so.
func TestValidTokenAtUnknownPathIsLogged(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"))})
	g.ask(t, upgrade("/wrong", "Authorization: Bearer alice-token"))
	g.log.Wait(t, 1, `msg="no endpoint at this path"`, "user=alice", "path=/wrong", "hint=")
}

// The streams of a session are listed with their target, age and bytes while they are
// open, but not for each scrape of the metrics.
func TestStatusListsStreams(t *testing.T) {
	g := start(t, Config{}, Access{Users: users(t, user("alice", "127.0.0.1:*"))})
	echo := testnet.Echo(t)
	began := time.Now()
	st := mustOpen(t, g.session(t, "alice"), tcp(echo))
	if _, err := st.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(st, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes are counted", func() bool {
		list := g.StatusWithStreams().Sessions[0].OpenStreams
		return len(list) == 1 && list[0].Target == echo && list[0].Received == 5 && list[0].Sent == 5 && list[0].Opened.Sub(began).Abs() < time.Minute
	})
	if list := g.Status().Sessions[0].OpenStreams; list != nil {
		t.Errorf("Status has %+v", list)
	}
	st.Reset(mux.Reset)
	eventually(t, "the stream is no longer listed", func() bool { return len(g.StatusWithStreams().Sessions[0].OpenStreams) == 0 })
}

// The last failure of a backend stays visible after its pause.
func TestStatusHasLastFailureOfBackend(t *testing.T) {
	down := testnet.RefusedAddr(t)
	g := start(t, Config{}, Access{Routes: []Route{{Path: "/x", Backends: []string{down}}}})
	if b := g.Status().Routes[0].Backends[0]; b.LastFailure != "" || b.LastFailed != nil {
		t.Errorf("before: %+v", b)
	}
	g.ask(t, upgrade("/x"))
	b := g.Status().Routes[0].Backends[0]
	if !strings.Contains(b.LastFailure, "refused") || b.LastFailed == nil || time.Since(*b.LastFailed).Abs() > time.Minute {
		t.Errorf("after: %+v", b)
	}
}
