package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"adit/auth"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
)

// resumable opens a session that the server keeps when its connection is lost, and
// returns a function that cuts the connection.
func (g *gateway) resumable(t *testing.T, name string) (m *mux.Session, kill func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	conn, err := dial.Dial(ctx, g.url(), g.dialer(name))
	if err != nil {
		t.Fatal(err)
	}
	before := len(g.log.Lines("session opened"))
	m, err = mux.Client(ctx, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	eventually(t, "the session is open", func() bool { return len(g.log.Lines("session opened")) > before })
	return m, func() { conn.CloseNow() }
}

func (g *gateway) detached() int {
	n, _, _ := g.tunnel.store.Detached()
	return n
}

// After all clients of a user were killed, the next ones do not wait until the
// sessions of the dead ones are given up.
func TestDetachedSessionsGiveWay(t *testing.T) {
	alice := user("alice", "*:*")
	alice.MaxSessions = 3
	g := start(t, Config{Mux: mux.Config{ResumeTimeout: time.Hour}, MaxSessionsPerUser: 1},
		Access{Users: users(t, alice, user("bob", "*:*")), Anonymous: []string{"1.2.3.4:1"}})
	_, killBob := g.resumable(t, "bob")
	killBob()
	_, killAnonymous := g.resumable(t, "")
	killAnonymous()
	eventually(t, "those of others are detached", func() bool { return g.detached() == 2 })
	alive, _ := g.resumable(t, "alice")
	var dead []*mux.Session
	for i := range 2 {
		m, kill := g.resumable(t, "alice")
		dead = append(dead, m)
		kill()
		eventually(t, "detached", func() bool { return g.detached() == 3+i })
	}
	for i := range dead {
		g.session(t, "alice")
		if n := g.detached(); n != 3-i {
			t.Fatalf("%d sessions are detached", n)
		}
	}
	if _, err := g.trySession(t, "alice"); !refusedByLimit(err) {
		t.Errorf("at the limit, with none detached: %v", err)
	}
	g.log.Wait(t, 1, "session refused", "this user has 3 sessions already, as many as the user's max-sessions allows")
	mustEcho(t, mustOpen(t, alive, tcp(testnet.Echo(t))))
	// Anonymous clients are many.
	if _, err := g.trySession(t, ""); !refusedByLimit(err) {
		t.Errorf("an anonymous client: %v", err)
	}
	if n := g.detached(); n != 2 {
		t.Errorf("%d sessions are detached", n)
	}
	eventually(t, "the ended ones are no longer counted", func() bool {
		g.tunnel.sessions.mu.Lock()
		defer g.tunnel.sessions.mu.Unlock()
		return g.tunnel.sessions.perUser["alice"] == 3 && len(g.tunnel.sessions.live) == 5
	})
}

func refusedByLimit(err error) bool {
	var refused *mux.ClosedError
	return errors.As(err, &refused) && refused.Code == mux.CloseLimit
}

// A session that is resumed before it is in the table of sessions gets the address
// and the credential of its second connection all the same.
func TestEarlyResumption(t *testing.T) {
	two := auth.User{Name: "alice", TokenHashes: []string{auth.HashToken("alice-token"), auth.HashToken("other-token")}, Allow: []string{"*:*"}}
	g := start(t, Config{}, Access{Users: users(t, two)})
	g.session(t, "alice")
	g.log.Wait(t, 1, "session opened")
	s := g.tunnel.sessions
	x := s.some(1)[0]
	_, other, err := g.access.Load().users.Authenticate(auth.Credentials{Authorization: "Bearer other-token"})
	if err != nil {
		t.Fatal(err)
	}
	// As if the goroutine that adds the session had not come to it.
	s.mu.Lock()
	delete(s.live, x)
	s.mu.Unlock()
	if s.resumed(x.mux, joined{other, "192.0.2.7:1"}) != nil {
		t.Error("found")
	}
	left := make(chan struct{})
	go func() { // nor when it has to leave
		s.leave(x.mux, "alice")
		close(left)
	}()
	time.Sleep(20 * time.Millisecond) // it waits
	s.add(x)
	<-left
	s.mu.Lock()
	if s.perUser["alice"] != 0 {
		t.Error("it is still counted")
	}
	s.mu.Unlock()
	if x.currentAddr() != "192.0.2.7:1" || x.proof != other || len(s.early) != 0 {
		t.Errorf("%s, %d kept", x.currentAddr(), len(s.early))
	}
	// So the session depends on the second credential.
	if err := g.SetAccess(Access{Users: users(t, user("alice", "*:*"))}); err != nil {
		t.Fatal(err)
	}
	<-x.mux.Done()
	eventually(t, "it has been removed", func() bool { return len(s.some(-1)) == 0 })
	if s.resumed(x.mux, joined{}) != nil || len(s.early) != 0 {
		t.Error("an ended session is kept")
	}
}
