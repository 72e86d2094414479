package server

import (
	"io"
	"strings"
	"sync"
	"testing"

	"adit/internal/audit"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// records collects audit records.
type records struct {
	mu  sync.Mutex
	all []audit.Record
}

func (r *records) put(x audit.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

// next waits for the nth record, counted from 1.
func (r *records) next(t *testing.T, n int) audit.Record {
	t.Helper()
	var x audit.Record
	eventually(t, "there is another audit record", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.all) < n {
			return false
		}
		x = r.all[n-1]
		return true
	})
	if x.Time.IsZero() || x.Seconds < 0 || x.Session == "" || !strings.HasPrefix(x.Client, "127.0.0.1:") {
		t.Errorf("%+v", x)
	}
	return x
}

func TestAuditOfStreams(t *testing.T) {
	echo, dead := testnet.Echo(t), testnet.RefusedAddr(t)
	var r records
	g := start(t, Config{Audit: r.put}, Access{Users: users(t, user("alice", echo, dead, "echo")), Targets: map[string]string{"echo": echo}})
	m := g.session(t, "alice")
	st := mustOpen(t, m, named("echo"))
	mustEcho(t, st)
	st.CloseWrite()
	io.ReadAll(st)
	st.Close()
	one := r.next(t, 1)
	if one.Kind != audit.Stream || one.User != "alice" || one.Target != "echo" || one.Address != echo || one.Result != audit.Ended || one.Reason != "" ||
		one.ToTarget != 14 || one.ToClient != 14 {
		t.Errorf("%+v", one)
	}
	wantCode(t, m, tcp("127.0.0.1:1"), mux.Forbidden)
	wantCode(t, m, tcp(dead), mux.Refused)
	if x := r.next(t, 2); x.Result != "forbidden" || x.Target != "127.0.0.1:1" || x.Address != "" || x.Reason == "" || x.Session != one.Session {
		t.Errorf("%+v", x)
	}
	if x := r.next(t, 3); x.Result != "refused" || x.Target != dead || x.ToTarget != 0 {
		t.Errorf("%+v", x)
	}
	st = mustOpen(t, m, tcp(echo))
	mustEcho(t, st)
	st.Abort()
	if x := r.next(t, 4); x.Result != audit.Reset || x.Reason == "" || x.Address != echo || x.ToClient != 14 {
		t.Errorf("%+v", x)
	}
	if lines := g.log.Lines("session opened", "session="+one.Session, "user=alice"); len(lines) != 1 {
		t.Errorf("the log does not name the session: %q", lines)
	}
}

func TestAuditOfRoutes(t *testing.T) {
	echo, dead := testnet.Echo(t), testnet.RefusedAddr(t)
	var r records
	g := start(t, Config{Audit: r.put}, Access{Users: users(t, user("alice"), user("bob")), Routes: []Route{
		{Path: "/echo", Backends: []string{echo}, Users: []string{"alice"}},
		{Path: "/dead", Backends: []string{dead}},
	}})
	dial := func(name, path string) (*ws.Conn, error) {
		return dial.Dial(t.Context(), "wss://"+g.addr+path, g.dialer(name))
	}
	c, err := dial("alice", "/echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMessage(ws.OpBinary, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.NextMessage(); err != nil {
		t.Fatal(err)
	}
	io.ReadAll(c)
	c.Close(ws.StatusNormal, "")
	if x := r.next(t, 1); x.Kind != audit.Route || x.User != "alice" || x.Target != "/echo" || x.Address != echo || x.Result != audit.Ended ||
		x.Reason != "the client closed with 1000" || x.ToTarget != 5 || x.ToClient != 5 {
		t.Errorf("%+v", x)
	}
	for i, test := range []struct{ user, path, result string }{{"bob", "/echo", "forbidden"}, {"", "/dead", "unreachable"}} {
		if c, err := dial(test.user, test.path); err == nil {
			c.CloseNow()
			t.Errorf("%s is open", test.path)
		}
		if x := r.next(t, 2+i); x.Result != test.result || x.User != test.user || x.Target != test.path || x.Address != "" || x.Reason == "" {
			t.Errorf("%+v", x)
		}
	}
	// A request without credentials leaves no record.
	if c, err := dial("", "/echo"); err == nil {
		c.CloseNow()
		t.Error("open to everybody")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) != 3 {
		t.Errorf("%+v", r.all)
	}
}
