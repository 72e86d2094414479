package server

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"adit/internal/testnet"
	"adit/mux"
)

// port returns the port of a HOST:PORT, with its colon.
func port(t *testing.T, address string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return ":" + p
}

// echoSocket runs an echo server on a unix socket and returns its path.
func echoSocket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "echo.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return path
}

func TestPolicyOfTheSession(t *testing.T) {
	a, b := testnet.Echo(t), testnet.Echo(t)
	g := start(t, Config{}, Access{Users: users(t, user("alice", a), user("bob", b), user("none"))})
	m := g.session(t, "alice")
	wantCode(t, m, tcp(b), mux.Forbidden)
	wantCode(t, m, tcp("localhost"+port(t, b)), mux.Forbidden)
	wantCode(t, m, tcp("127.0.0.2"+port(t, a)), mux.Forbidden)
	wantCode(t, m, tcp("0.0.0.0"+port(t, a)), mux.Forbidden)
	wantCode(t, m, tcp("[::1%25lo]"+port(t, a)), mux.Forbidden)
	wantCode(t, m, tcp("[fe80::1%lo]"+port(t, a)), mux.Forbidden)
	wantCode(t, m, tcp("127.1"+port(t, a)), mux.Forbidden)
	wantCode(t, m, tcp("0x7f000001"+port(t, a)), mux.Forbidden)
	wantCode(t, m, unix("/run/x.sock"), mux.Forbidden)
	wantCode(t, m, named("ssh"), mux.Forbidden)
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:ssh", ":22", "::1:22", "[::1]"} {
		wantCode(t, m, tcp(bad), mux.Failed)
	}
	mustEcho(t, mustOpen(t, m, tcp(a))) // the session is still open
	mustEcho(t, mustOpen(t, m, tcp("[::ffff:127.0.0.1]"+port(t, a))))
	mustEcho(t, mustOpen(t, g.session(t, "bob"), tcp(b)))
	wantCode(t, g.session(t, "none"), tcp(a), mux.Forbidden)
	g.log.Wait(t, 1, "level=WARN", "stream refused", "user=alice", "target="+b, "code=forbidden")
}

func TestTargets(t *testing.T) {
	echo, sock := testnet.Echo(t), echoSocket(t)
	dir := filepath.Dir(sock)
	g := start(t, Config{}, Access{
		Users: users(t, user("byname", "web", "socket", "gone"), user("byaddress", echo, "unix:"+sock), user("bydir", "unix:"+dir+"/*"), user("none", "other")),
		Targets: map[string]string{
			"web": echo, "socket": "unix:" + sock, "missing": "unix:" + dir + "/none.sock",
		},
	})
	for _, c := range []struct {
		user string
		to   mux.Target
		want mux.Code
	}{
		{"byname", named("web"), mux.Connected},
		{"byname", named("socket"), mux.Connected},
		{"byname", named("gone"), mux.NotFound},     // allowed, not configured
		{"byname", named("missing"), mux.Forbidden}, // configured, not allowed
		{"byname", named("nothing"), mux.Forbidden}, // neither: the same answer
		{"byname", tcp(echo), mux.Forbidden},        // the name does not allow the address
		{"byname", unix(sock), mux.Forbidden},
		{"byname", named("Web"), mux.Forbidden},
		{"byaddress", named("web"), mux.Connected},
		{"byaddress", named("socket"), mux.Connected},
		{"byaddress", unix(sock), mux.Connected},
		{"byaddress", unix(sock + "/"), mux.Forbidden},
		{"byaddress", named("missing"), mux.Forbidden},
		{"bydir", unix(sock), mux.Connected},
		{"bydir", named("missing"), mux.NotFound},
		{"bydir", unix(dir + "/../" + filepath.Base(dir) + "/echo.sock"), mux.Forbidden},
		{"bydir", unix("echo.sock"), mux.Forbidden},
		{"bydir", unix("@echo"), mux.Forbidden},
		{"none", named("web"), mux.Forbidden},
		{"none", named("other"), mux.NotFound},
	} {
		t.Run(c.user+" "+c.to.String(), func(t *testing.T) {
			wantCode(t, g.session(t, c.user), c.to, c.want)
		})
	}
	// The answer does not tell a forbidden target from one that does not exist.
	m := g.session(t, "none")
	_, there := open(t, m, named("web"))
	_, absent := open(t, m, named("nothing"))
	if there == nil || absent == nil || there.Error() != absent.Error() {
		t.Errorf("a forbidden target: %v; no target: %v", there, absent)
	}
	mustEcho(t, mustOpen(t, g.session(t, "byname"), named("web")))
	mustEcho(t, mustOpen(t, g.session(t, "byname"), named("socket")))
}

func TestResolvedAddress(t *testing.T) {
	echo := testnet.Echo(t)
	p := port(t, echo)
	loopback := netip.MustParseAddr("127.0.0.1")
	resolver := testnet.NewResolver(t, map[string][]netip.Addr{
		"db.lan.test":   {loopback},
		"meta.lan.test": {netip.MustParseAddr("169.254.169.254")},
		"any.lan.test":  {netip.MustParseAddr("0.0.0.0")},
		"map.lan.test":  {netip.MustParseAddr("::ffff:127.0.0.1")},
		"two.lan.test":  {netip.MustParseAddr("169.254.169.254"), loopback},
		"lan.test":      {loopback},
	})
	g := start(t, Config{Resolver: resolver}, Access{Users: users(t,
		user("suffix", "*.lan.test:*"),
		user("cidr", "10.0.0.0/8:*", "192.168.0.0/16:*"),
		user("loopback", "127.0.0.0/8"+p),
		user("ports", p[1:]),
		user("name", "db.lan.test"+p, "meta.lan.test:*"),
		user("star", "*:*"),
	)})
	for _, c := range []struct {
		user, host string
		want       mux.Code
	}{
		{"suffix", "db.lan.test", mux.Forbidden}, // a suffix never reaches loopback
		{"suffix", "meta.lan.test", mux.Forbidden},
		{"suffix", "any.lan.test", mux.Forbidden},
		{"suffix", "map.lan.test", mux.Forbidden},
		{"suffix", "lan.test", mux.Forbidden},
		{"cidr", "db.lan.test", mux.Forbidden},
		{"cidr", "meta.lan.test", mux.Forbidden},
		{"loopback", "db.lan.test", mux.Connected},
		{"loopback", "two.lan.test", mux.Connected}, // at its second address
		{"loopback", "meta.lan.test", mux.Forbidden},
		{"loopback", "no.lan.test", mux.NotFound},
		{"ports", "db.lan.test", mux.Connected},
		{"ports", "meta.lan.test", mux.Forbidden},
		{"name", "db.lan.test", mux.Connected},
		{"name", "db.lan.test.", mux.Connected},
		{"name", "DB.Lan.Test", mux.Connected},
		{"name", "meta.lan.test", mux.Forbidden},
		{"name", "127.0.0.1", mux.Forbidden},
		{"name", "lan.test", mux.Forbidden},
		{"star", "db.lan.test", mux.Connected},
		{"star", "meta.lan.test", mux.Forbidden},
		{"star", "meta.lan.test.", mux.Forbidden},
		{"star", "any.lan.test", mux.Forbidden},
		{"star", "169.254.169.254", mux.Forbidden},
		{"star", "[::ffff:169.254.169.254]", mux.Forbidden},
		{"star", "0.0.0.0", mux.Forbidden},
		{"star", "[::]", mux.Forbidden},
	} {
		t.Run(c.user+" "+c.host, func(t *testing.T) {
			wantCode(t, g.session(t, c.user), tcp(c.host+p), c.want)
		})
	}
}

func TestAnonymous(t *testing.T) {
	echo := testnet.Echo(t)
	g := start(t, Config{MaxSessionsPerUser: 2}, Access{Users: users(t, user("alice", "*:*")), Anonymous: []string{"web"}, Targets: map[string]string{"web": echo}})
	m := g.session(t, "")
	mustEcho(t, mustOpen(t, m, named("web")))
	wantCode(t, m, tcp(echo), mux.Forbidden)
	mustEcho(t, mustOpen(t, g.session(t, "alice"), tcp(echo)))
	if _, err := g.trySession(t, "mallory"); err == nil {
		t.Error("wrong credentials count as none")
	}
	g.session(t, "")
	if _, err := g.trySession(t, ""); err == nil {
		t.Error("more anonymous sessions than the bound")
	}
	g.session(t, "alice")
	g.log.Wait(t, 1, "session opened", `user=(anonymous)`)
	// Without rules for anonymous clients, their sessions end.
	if err := g.SetAccess(Access{Users: users(t, user("alice", "*:*"))}); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, m)
	if _, err := g.trySession(t, ""); err == nil {
		t.Error("an anonymous session after the change")
	}
}

func wantRevoked(t *testing.T, m *mux.Session) {
	t.Helper()
	var closed *mux.ClosedError
	if err := ended(t, m); !errors.As(err, &closed) || closed.Code != mux.CloseRevoked {
		t.Errorf("the session ended with %v", err)
	}
}

func TestNoAccess(t *testing.T) {
	for _, a := range []Access{{}, {Users: users(t)}, {Targets: map[string]string{"x": "127.0.0.1:1"}}} {
		if _, err := New(Config{}, a); !errors.Is(err, ErrOpen) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	ok := users(t, user("alice"))
	for name, a := range map[string]Access{
		"target":    {Users: ok, Targets: map[string]string{"x": "nowhere"}},
		"port":      {Users: ok, Targets: map[string]string{"x": "a:0"}},
		"path":      {Users: ok, Targets: map[string]string{"x": "unix:relative"}},
		"anonymous": {Users: ok, Anonymous: []string{"*"}},
	} {
		if _, err := New(Config{}, a); err == nil || errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSetAccess(t *testing.T) {
	echo, other := testnet.Echo(t), testnet.Echo(t)
	targets := map[string]string{"web": echo}
	g := start(t, Config{}, Access{Users: users(t, user("alice", echo, "web"), user("bob", echo)), Targets: targets})
	delete(targets, "web") // SetAccess must have made a copy
	alice, bob := g.session(t, "alice"), g.session(t, "bob")
	live := mustOpen(t, alice, tcp(echo))
	mustEcho(t, live)
	mustEcho(t, mustOpen(t, alice, named("web")))
	cut := mustOpen(t, bob, tcp(echo))
	mustEcho(t, cut)

	// A malformed Access changes nothing.
	for _, bad := range []Access{{}, {Users: users(t, user("carol")), Targets: map[string]string{"x": "y"}}, {Users: users(t, user("carol")), Anonymous: []string{"!"}}} {
		if err := g.SetAccess(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	mustEcho(t, cut)
	mustEcho(t, mustOpen(t, alice, named("web")))
	if _, err := g.trySession(t, "carol"); err == nil {
		t.Error("a user of a refused configuration")
	}

	if err := g.SetAccess(Access{Users: users(t, user("alice", other), user("carol", echo))}); err != nil {
		t.Fatal(err)
	}
	// The new rules apply to new streams at once, and old streams continue.
	wantCode(t, alice, tcp(echo), mux.Forbidden)
	wantCode(t, alice, named("web"), mux.Forbidden)
	wantCode(t, alice, tcp(other), mux.Connected)
	mustEcho(t, live)
	wantRevoked(t, bob)
	if _, err := cut.Read(make([]byte, 1)); !errors.Is(err, mux.ErrSessionLost) && !isReset(err) {
		t.Errorf("a removed user's stream ended with %v", err)
	}
	if _, err := g.trySession(t, "bob"); err == nil {
		t.Error("a removed user has a new session")
	}
	mustEcho(t, mustOpen(t, g.session(t, "carol"), tcp(echo)))
}

func isReset(err error) bool {
	var reset *mux.ResetError
	return errors.As(err, &reset)
}

// The session of a removed user ends even while a stream is busy.
func TestRevokedWhileBusy(t *testing.T) {
	flood := testnet.Serve(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	g := start(t, Config{}, Access{Users: users(t, user("alice", "*:*"), user("bob"))})
	m := g.session(t, "alice")
	st := mustOpen(t, m, tcp(flood))
	b := make([]byte, 64<<10)
	if _, err := st.Read(b); err != nil {
		t.Fatal(err)
	}
	if err := g.SetAccess(Access{Users: users(t, user("bob"))}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := st.Read(b); err != nil {
			break
		}
	}
	wantRevoked(t, m)
}

// A session that starts while Access changes is judged by the last Access in the
// end.
func TestSetAccessRace(t *testing.T) {
	a, b := testnet.Echo(t), testnet.Echo(t)
	g := start(t, Config{}, Access{Users: users(t, user("alice", a))})
	for i := range 30 {
		made := make(chan *mux.Session)
		go func() {
			m, _ := g.trySession(t, "alice")
			made <- m
		}()
		rule, not := a, b
		if i%2 == 0 {
			rule, not = b, a
		}
		if err := g.SetAccess(Access{Users: users(t, user("alice", rule))}); err != nil {
			t.Fatal(err)
		}
		m := <-made
		if m == nil {
			t.Fatal("no session")
		}
		wantCode(t, m, tcp(not), mux.Forbidden)
		wantCode(t, m, tcp(rule), mux.Connected)
		m.Close()
	}
}
