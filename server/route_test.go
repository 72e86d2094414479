package server

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"adit/auth"
	"adit/internal/dialout"
)

// table makes a routeTable. Routes without backends get one.
func table(t *testing.T, list ...Route) routeTable {
	t.Helper()
	for i := range list {
		if list[i].Backends == nil {
			list[i].Backends = []string{"127.0.0.1:1"}
		}
	}
	table, err := newRouteTable(list, nil, nil, "/tunnel", nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestRouteLookup(t *testing.T) {
	routes := table(t,
		Route{Path: "/"},
		Route{Path: "/json"},
		Route{Path: "/json/deep"},
		Route{Path: "/json/deep", Exact: true},
		Route{Path: "/json", Host: "One.Example."},
		Route{Path: "/exact", Exact: true},
		Route{Path: "/six", Host: "::1"},
	)
	none := table(t, Route{Path: "/json"})
	tests := []struct {
		table      routeTable
		host, path string
		want       string // host, path, exact; "" for no route
	}{
		{routes, "x", "/json", "/json"},
		{routes, "x", "/json/", "/json"},
		{routes, "x", "/json/a/b", "/json"},
		{routes, "x", "/jsonx", "/"},
		{routes, "x", "/JSON", "/"},
		{routes, "x", "/", "/"},
		{routes, "x", "/json/deep", "/json/deep="},
		{routes, "x", "/json/deep/", "/json/deep"},
		{routes, "x", "/json/deep/er", "/json/deep"},
		{routes, "x", "/exact", "/exact="},
		{routes, "x", "/exact/", "/"},
		{routes, "one.example", "/json", "one.example/json"},
		{routes, "ONE.example.:8443", "/json/x", "one.example/json"},
		{routes, "one.example.org", "/json", "/json"},
		{routes, "[::1]:443", "/six", "::1/six"},
		{routes, "[::1]", "/six", "::1/six"},
		{routes, "", "/json", "/json"},
		{routes, "x", "/json/../exact", ""},
		{routes, "x", "/json/./a", ""},
		{routes, "x", "//json", ""},
		{routes, "x", "/json//", ""},
		{routes, "x", "/..", ""},
		{routes, "x", "json", ""},
		{routes, "x", "", "/"},
		{none, "x", "", ""},
		{none, "x", "/", ""},
		{none, "x", "/jso", ""},
		{none, "x", "*", ""},
	}
	for _, test := range tests {
		got := ""
		if r := test.table.lookup(test.host, test.path); r != nil {
			got = r.id.String()
			if r.Exact {
				got += "="
			}
		}
		if got != test.want {
			t.Errorf("%s %s: %q, want %q", test.host, test.path, got, test.want)
		}
	}
}

// A path that matches a route is below the route's path in every interpretation.
func FuzzRouteLookup(f *testing.F) {
	f.Add("a.example:1", "/json/x")
	f.Add("[::1]", "/json/../x")
	f.Add("A.example.", "/json%2fx/")
	f.Fuzz(func(t *testing.T, host, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := table(t, Route{Path: "/json"}, Route{Path: "/a", Host: "a.example"}).lookup(host, u.Path)
		if r == nil {
			return
		}
		if u.Path != r.Path && !strings.HasPrefix(u.Path, r.Path+"/") {
			t.Errorf("%q is not below %q", u.Path, r.Path)
		}
		if strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path, "//") {
			t.Errorf("%q matches", u.Path)
		}
		if r.Host != "" && !strings.HasPrefix(strings.ToLower(host), r.Host) {
			t.Errorf("host %q matches", host)
		}
	})
}

func TestRouteFaults(t *testing.T) {
	alice := users(t, user("alice"))
	targets := map[string]dialout.Address{"db": {Network: "tcp", Host: "127.0.0.1", Port: 5432}}
	good := Route{Path: "/a", Backends: []string{"127.0.0.1:1", "unix:/run/x.sock", "db", "[::1]:2"},
		Host: "h.example", FrameType: "text", Origins: []string{"https://*.example.com"}, Users: []string{"alice"}, ProxyProtocol: "v2"}
	if table, err := newRouteTable([]Route{good}, alice, targets, "/tunnel", nil); err != nil || table[0].PingInterval != DefaultPingInterval {
		t.Fatal(err)
	}
	with := func(change func(*Route)) Route {
		r := good
		change(&r)
		return r
	}
	tests := []struct {
		route Route
		field string
	}{
		{with(func(r *Route) { r.Path = "" }), "path"},
		{with(func(r *Route) { r.Path = "a" }), "path"},
		{with(func(r *Route) { r.Path = "/a/" }), "path"},
		{with(func(r *Route) { r.Path = "/a/../b" }), "path"},
		{with(func(r *Route) { r.Path = "//" }), "path"},
		{with(func(r *Route) { r.Path = "/a?b" }), "path"},
		{with(func(r *Route) { r.Path = "/a\n" }), "path"},
		{with(func(r *Route) { r.Path = "/tunnel" }), "path"},
		{with(func(r *Route) { r.Host = "h:1" }), "host"},
		{with(func(r *Route) { r.Host = "h/x" }), "host"},
		{with(func(r *Route) { r.Backends = nil }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"nowhere"} }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"h:0"} }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"h:65536"} }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"unix:x"} }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"h:1", "h:1"} }), "backend"},
		{with(func(r *Route) { r.Backends = []string{"db", "127.0.0.1:5432"} }), "backend"},
		{with(func(r *Route) { r.FrameType = "Text" }), "frame-type"},
		{with(func(r *Route) { r.Origins = []string{"app.example.com"} }), "origins"},
		{with(func(r *Route) { r.Users = []string{"mallory"} }), "users"},
		{with(func(r *Route) { r.IdleTimeout = -1 }), "idle-timeout"},
		{with(func(r *Route) { r.ConnectTimeout = -1 }), "connect-timeout"},
		{with(func(r *Route) { r.LingerTimeout = -1 }), "linger-timeout"},
		{with(func(r *Route) { r.MaxConnsPerAddress = -1 }), "max-conns-per-address"},
		{with(func(r *Route) { r.ProxyProtocol = "v3" }), "proxy-protocol"},
	}
	for i, test := range tests {
		_, err := newRouteTable([]Route{test.route}, alice, targets, "/tunnel", nil)
		var fault *RouteError
		if !errors.As(err, &fault) || fault.Field != test.field {
			t.Errorf("%d, a bad %s: %v", i, test.field, err)
		}
	}
	_, err := newRouteTable([]Route{{Path: "x"}, good, good, {Path: "/c", FrameType: "x"}}, alice, targets, "/tunnel", nil)
	for _, part := range []string{"does not begin", "route \"/a\": path: appears twice", "at least one is needed", "neither binary nor text"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the faults lack %q: %v", part, err)
		}
	}
}

// A reload keeps the counts of the routes that it keeps, and no others.
func TestReloadKeepsCounts(t *testing.T) {
	first := table(t, Route{Path: "/a", Backends: []string{"h:1", "h:2"}}, Route{Path: "/b"})
	if _, full := first.lookup("", "/a").limit.add(addr("10.0.0.1"), 1, 0); full != "" {
		t.Fatal(full)
	}
	first.lookup("", "/a").pool.backends[0].conns = 7
	second, err := newRouteTable([]Route{{Path: "/a", Backends: []string{"h:3", "h:1"}, PingInterval: time.Second}}, nil, nil, "/tunnel", first)
	if err != nil {
		t.Fatal(err)
	}
	r := second.lookup("", "/a")
	if _, full := r.limit.add(addr("10.0.0.1"), 1, 0); full == "" {
		t.Error("the connections of before do not count")
	}
	if b := r.pool.backends; b[0].conns != 0 || b[1].conns != 7 {
		t.Errorf("the backends have %d and %d connections", b[0].conns, b[1].conns)
	}
	if r.PingInterval != time.Second || second.lookup("", "/b") != nil {
		t.Error("the new route is not what was asked for")
	}
}

func TestRouteLimit(t *testing.T) {
	var p routeLimit
	var back []func()
	take := func(a string, max, per int) bool {
		f, full := p.add(addr(a), max, per)
		if full == "" {
			back = append(back, f)
		}
		return full == ""
	}
	for i, want := range []bool{
		take("10.0.0.1", 4, 2), take("::ffff:10.0.0.1", 4, 2), !take("10.0.0.1", 4, 2),
		take("2001:db8::1", 4, 2), take("2001:db8::2", 4, 2), !take("2001:db8::3", 0, 2),
		!take("2001:db8:0:1::1", 4, 2), take("2001:db8:0:1::1", -1, 0),
	} {
		if !want {
			t.Errorf("take number %d was not answered as it should be", i)
		}
	}
	for _, f := range back {
		f()
	}
	if p.total != 0 || len(p.byAddress) != 0 {
		t.Errorf("%d connections and %d addresses are left", p.total, len(p.byAddress))
	}
}

// A server with routes needs no users.
func TestRoutesAlone(t *testing.T) {
	if _, err := New(Config{}, Access{Routes: []Route{{Path: "/a", Backends: []string{"127.0.0.1:1"}}}}); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{TunnelPath: "/t"}, Access{Users: new(auth.Users), Routes: []Route{{Path: "/t"}}}); err == nil {
		t.Error("a route has the tunnel's path")
	}
}

// A path that another server would take for a pattern never matches here.
func TestRoutePathPatternsAreRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/*": `write "/"`, "/json/*": `write "/json"`, "/a/{id}/b": `write "/a"`, "/a/:id": `write "/a"`, "/a/b*": `write "/a"`,
	} {
		_, err := newRouteTable([]Route{{Path: path, Backends: []string{"h:1"}}}, nil, nil, "/tunnel", nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	routes := table(t, Route{Path: "/a:b"}, Route{Path: "/größe"})
	u, err := url.Parse("https://gw.test/gr%C3%B6%C3%9Fe/x")
	if err != nil {
		t.Fatal(err)
	}
	if r := routes.lookup("gw.test", u.Path); r == nil || r.Path != "/größe" {
		t.Errorf("%+v", r)
	}
	if r := routes.lookup("gw.test", "/a:b"); r == nil {
		t.Error("a colon inside a segment is not matched")
	}
}
