package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"adit/internal/hint"
	"adit/server"
)

const plainServer = "listen = \":1\"\ntls.off = true\n"

const routeFile = plainServer + `trusted-proxies = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]
demo-page = "/console"
site = {proxy = "http://127.0.0.1:8080"}
[[user]]
name = "alice"
token-hash = "h"
[[target]]
name = "vnc"
address = "127.0.0.1:5900"
[[route]]
path = "/json"
exact = true
host = "gw.example.com"
backend = ["127.0.0.1:9000",
  "unix:/run/app.sock", "vnc"]
frame-type = "text"
origins = ["https://app.example.com", "https://*.example.com:8443"]
ping-interval = "0s"
pong-timeout = "5s"
idle-timeout = "10m"
connect-timeout = "2s"
linger-timeout = "3s"
max-conns = 0
max-conns-per-address = 7
users = ["alice"]
proxy-protocol = "v2"
[[route]]
path = "/"
backend = "[::1]:9000"
`

func TestRouteFile(t *testing.T) {
	path := write(t, "server.toml", routeFile)
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--config", path}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	want := []server.Route{{
		Path: "/json", Exact: true, Host: "gw.example.com",
		Backends:  []string{"127.0.0.1:9000", "unix:/run/app.sock", "vnc"},
		FrameType: "text", Origins: []string{"https://app.example.com", "https://*.example.com:8443"}, Users: []string{"alice"},
		PingInterval: -1, PongTimeout: 5 * time.Second, IdleTimeout: 10 * time.Minute,
		ConnectTimeout: 2 * time.Second, LingerTimeout: 3 * time.Second,
		MaxConns: -1, MaxConnsPerAddress: 7, ProxyProtocol: "v2",
	}, {
		Path: "/", Backends: []string{"[::1]:9000"},
	}}
	if !reflect.DeepEqual(s.Routes, want) {
		t.Errorf("routes %+v", s.Routes)
	}
	if got := fmt.Sprint(s.TrustedProxies); got != "[10.0.0.0/8 192.0.2.7/32 fd00::/8]" {
		t.Error(got)
	}
	if s.DemoPage != "/console" || s.SiteProxy != "http://127.0.0.1:8080" || s.SiteRoot != "" {
		t.Errorf("%+v", s)
	}
	for key, want := range map[string]string{
		"route[0].backend[1]": path + ":17: route.backend",
		"route[1]":            path + ":29: [[route]]",
		"route[1].host":       path + ":29: [[route]]",
	} {
		if got := s.Origin(key); got != want {
			t.Errorf("Origin(%s) = %q, want %q", key, got, want)
		}
	}

	// --route and --site take the place of what the file says.
	s, faults = LoadServer(sources(t, ServerFlags, []string{"-c", path, "--route=/a=h:1", "--site=/www"}))
	if err := faults.Err(); !strings.Contains(fmt.Sprint(err), `user "alice" may reach nothing`) || len(faults) != 1 {
		t.Error(err)
	}
	if len(s.Routes) != 1 || s.Routes[0].Path != "/a" || s.SiteRoot != "/www" || s.SiteProxy != "" {
		t.Errorf("%+v", s)
	}
	if o := s.Origin("route[0].backend[1]"); o != "--route" {
		t.Error(o)
	}
}

// Everything that the file can say about a route, the flag can.
func TestRouteFlagAndFileAgree(t *testing.T) {
	const rest = plainServer + "[[user]]\nname = \"alice\"\ntoken-hash = \"h\"\nallow = [\"1:1\"]\n"
	file, path, backend, options := rest+"[[route]]\n", "", "", ""
	for _, s := range routeSettings(new(server.Route)) {
		file += s.key + " = " + s.example + "\n"
		text := strings.NewReplacer(`"`, "", "[", "", "]", "", " ", "").Replace(s.example)
		switch s.key {
		case "path":
			path = text
		case "backend":
			backend = text
		default:
			options += "&" + s.key + "=" + text
		}
	}
	want, faults := LoadServer(sources(t, ServerFlags, []string{"-c", write(t, "s.toml", file)}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if r := reflect.ValueOf(want.Routes[0]); r.NumField() != len(routeSettings(new(server.Route))) {
		t.Errorf("server.Route has %d fields", r.NumField())
	} else {
		for i := range r.NumField() {
			if r.Field(i).IsZero() {
				t.Errorf("no key sets the field %s", r.Type().Field(i).Name)
			}
		}
	}
	s, faults := LoadServer(sources(t, ServerFlags, []string{"-c", write(t, "s.toml", rest), "--route=" + path + "=" + backend + "?" + options[1:]}))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Routes, want.Routes) {
		t.Errorf("flag %+v\nfile %+v", s.Routes, want.Routes)
	}
	s, faults = LoadServer(sources(t, ServerFlags, []string{"-c", write(t, "s.toml", plainServer)},
		"ADIT_ROUTE=/a=h:1?users=%61lice&users=b%2Cob /b=h:2", "ADIT_TRUSTED_PROXY=::1 10.0.0.1"))
	if len(s.Routes) != 2 || fmt.Sprint(s.Routes[0].Users) != "[alice b,ob]" || len(s.TrustedProxies) != 2 {
		t.Errorf("%+v", s.Routes)
	}
	expectFault(t, faults, `ADIT_ROUTE: route "/a": there is no user "b,ob"`, "[[user]]")
}

func TestRouteAlone(t *testing.T) {
	s, faults := LoadServer(sources(t, ServerFlags, []string{"--no-tls", "--listen=:1", "--route=/json=127.0.0.1:9000"}))
	if err := faults.Err(); err != nil || len(s.Routes) != 1 {
		t.Error(s.Routes, err)
	}
}

func TestRouteFaults(t *testing.T) {
	const begin = "[[route]]\npath = \"/json\"\n" // lines 3 and 4 of the file
	const backend = "backend = [\"h:1\"]\n"
	const user = "[[user]]\nname = \"alice\"\ntoken-hash = \"h\"\nallow = [\"1:1\"]\n"
	const target = "[[target]]\nname = \"ssh\"\naddress = \"h:1\"\n"
	flag := func(s string) []string { return []string{"--route", s} }
	tests := []struct {
		name, file string
		args       []string
		says, hint string
	}{
		{"misspelt", begin + "bakcend = [\"h:1\"]", nil, ":5: route.bakcend: unknown key", "did you mean backend?"},
		{"unrelated", begin + "zzzzzzzz = 1", nil, ":5: route.zzzzzzzz: unknown key", "frame-type"},
		{"one bracket", "[route]\npath = \"/x\"", nil, ":3: [route]: needs two brackets", "[[route]]"},
		{"as a list", "route = [\"/x=h:1\"]", nil, ":3: route: is a table", "[[route]]"},
		{"no path", "[[route]]\n" + backend, nil, ":3: [[route]]: has no path", "path ="},
		{"no backend", begin, nil, ":3: [[route]]: route \"/json\" has no backend", "backend ="},
		{"relative path", "[[route]]\npath = \"json\"", nil, ":4: route.path: path \"json\" does not begin", "/json"},
		{"slash at the end", "[[route]]\npath = \"/json/\"", nil, "shortest form", "write \"/json\""},
		{"path with a star", "[[route]]\npath = \"/json/*\"", nil, ":4: route.path: path \"/json/*\" contains \"*\", which is taken literally", "write \"/json\""},
		{"path with a parameter", "[[route]]\npath = \"/{id}\"", nil, "contains \"{id}\"", "write \"/\""},
		{"path with a colon", "[[route]]\npath = \"/a/:id/b\"", nil, "contains \":id\"", "write \"/a\""},
		{"path escaped", "[[route]]\npath = \"/gr%C3%B6%C3%9Fe\"", nil, "is escaped", "write \"/größe\""},
		{"tunnel path", "[[route]]\npath = \"/tunnel\"\n" + backend, nil, ":4: route.path: \"/tunnel\" is the tunnel's own", "another path"},
		{"twice", begin + backend + begin + backend, nil, ":7: route.path: route \"/json\" is defined twice", "host or exact"},
		{"frame type", begin + backend + "frame-type = \"txt\"", nil, ":6: route.frame-type: \"txt\" is not a frame type", "did you mean text?"},
		{"frame type far", begin + backend + "frame-type = \"json\"", nil, ":6: route.frame-type:", "binary or text"},
		{"proxy protocol", begin + backend + "proxy-protocol = 2", nil, ":6: route.proxy-protocol: is the number 2", "a text in quotes"},
		{"proxy protocol v3", begin + backend + "proxy-protocol = \"version3\"", nil, "not a PROXY protocol", "off, v1 or v2"},
		{"exact", begin + backend + "exact = \"yes\"", nil, ":6: route.exact: is the text", "exact = true"},
		{"host with port", begin + backend + "host = \"a:1\"", nil, ":6: route.host:", "host name"},
		{"ping", begin + backend + "ping-interval = \"20\"", nil, ":6: route.ping-interval: \"20\" has no unit", "30s"},
		{"ping number", begin + backend + "ping-interval = 20", nil, ":6: route.ping-interval: is the number 20", "with a unit"},
		{"ping short", begin + backend + "ping-interval = \"1ms\"", nil, "out of range", "\"0s\" for never"},
		{"connect never", begin + backend + "connect-timeout = \"0s\"", nil, ":6: route.connect-timeout: \"0s\" is out of range", "between 100ms and 5m"},
		{"conns", begin + backend + "max-conns = \"many\"", nil, ":6: route.max-conns: is the text", "= 1000"},
		{"conns negative", begin + backend + "max-conns = -1", nil, ":6: route.max-conns: -1 is out of range", "between 0"},
		{"backend URL", begin + "backend = [\"h:1\",\n\"http://h\"]", nil, ":6: route.backend: backend \"http://h\" is a URL", "HOST:PORT"},
		{"backend without target", target + begin + "backend = \"shs\"", nil, ":8: route.backend: route \"/json\": there is no target named \"shs\"", "did you mean ssh?"},
		{"backend without port", begin + "backend = \"localhost\"", nil, "there is no target named \"localhost\"", "localhost:9000"},
		{"origin", begin + backend + "origins = [\"app.example.com\"]", nil, ":6: route.origins: origin \"app.example.com\" has no scheme", "did you mean \"https://app.example.com\"?"},
		{"origin star", begin + backend + "origins = \"*\"", nil, "let every web page", "https://"},
		{"origin empty", begin + backend + "origins = \"https://\"", nil, "is empty", "https://"},
		{"origin slash", begin + backend + "origins = \"https://a.b/\"", nil, "no path", "write \"https://a.b\""},
		{"origin star inside", begin + backend + "origins = \"https://a.*.b\"", nil, "contains '*'", "https://*.example.com"},
		{"origin star and address", begin + backend + "origins = \"https://*.10.0.0.1\"", nil, "no subdomains", "https://"},
		{"origin port", begin + backend + "origins = \"https://a:\"", nil, "not a port", "https://"},
		{"origin user", begin + backend + "origins = \"https://a@b\"", nil, "no user", "https://"},
		{"origin scheme", begin + backend + "origins = \"ht tp://b\"", nil, "scheme", "https://"},
		{"nobody", begin + backend + "users = [\"alice\",\n\"bob\"]\n" + user, nil, ":7: route.users: route \"/json\": there is no user \"bob\"", "adit token bob"},
		{"near user", begin + backend + "users = [\"alcie\"]\n" + user, nil, "no user \"alcie\"", "did you mean alice?"},

		{"flag without =", "", flag("/json"), `--route: "/json" has no =`, "--route '/json=127.0.0.1:9000'"},
		{"flag backend", "", flag("/json=127.0.0.1"), "--route: /json: backend: backend \"127.0.0.1\" has no port", "HOST:PORT"},
		{"flag no backend", "", flag("/json="), "--route: /json: backend: ", "HOST:PORT"},
		{"flag path", "", flag("json=h:1"), "--route: json: path: ", "/json"},
		{"flag key", "", flag("/json=h:1?frame-tpye=text"), "--route: /json: frame-tpye: unknown key", "did you mean frame-type?"},
		{"flag unknown", "", flag("/json=h:1?zzzzz=text"), "--route: /json: zzzzz: unknown key", "the keys are exact, host"},
		{"flag value", "", flag("/json=h:1?users"), "--route: /json: users: has no value", "users=VALUE"},
		{"flag twice", "", flag("/json=h:1?host=a&host=b"), "--route: /json: host: is given twice", "once"},
		{"flag main key", "", flag("/json=h:1?backend=h:2"), "--route: /json: backend: stands before the ?", "PATH=BACKEND"},
		{"flag escape", "", flag("/json=h:1?users=%zz"), `--route: /json: users: "%zz"`, "%25"},
		{"flag bool", "", flag("/json=h:1?exact=maybe"), "--route: /json: exact: \"maybe\"", "true or false"},
		{"flag tunnel", "", flag("/tunnel=h:1"), "--route: \"/tunnel\" is the tunnel's own", "another path"},
		{"flag nobody", "", flag("/json=h:1?users=bob"), "--route: route \"/json\": there is no user \"bob\"", "[[user]]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--config", write(t, "s.toml", plainServer+tt.file)}, tt.args...)
			_, faults := LoadServer(sources(t, ServerFlags, args))
			expectFault(t, faults, tt.says, tt.hint)
			if len(faults) != 1 && tt.name != "nobody" {
				t.Errorf("more than one fault:\n%v", faults)
			}
		})
	}
}

func TestEveryFaultOfARouteFlag(t *testing.T) {
	_, faults := LoadServer(sources(t, ServerFlags, []string{"--no-tls", "-l:1", "--route", "json=h:0?exact=2&foo=1&origins=x,y"}))
	for _, says := range []string{"path: ", "backend: ", "exact: ", "foo: ", `origins: origin "x"`, `origins: origin "y"`} {
		expectFault(t, faults, "--route: json: "+says, "")
	}
	if len(faults) != 6 {
		t.Errorf("%d faults:\n%v", len(faults), faults)
	}
}

func TestUsersFileHasNoRoutes(t *testing.T) {
	users := write(t, "u.toml", "[[route]]\npath = \"/x\"\nbackend = \"h:1\"\n")
	_, faults := LoadServer(sources(t, ServerFlags, []string{"-c", write(t, "s.toml", goodServer), "--users", users}))
	expectFault(t, faults, "u.toml:1: [route]: unknown table", "[[target]], [[user]]")
}

func FuzzRouteFlag(f *testing.F) {
	for _, s := range []string{"/json=h:1", "/=a:1,unix:/b,c?exact&host=x", "/a=b:1?users=%41,b&origins=https://*.x:1", "/a==?", "?=", "/a=h:1?ping-interval=0s&max-conns=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := &Server{}
		err := routeFlag{items[server.Route]{to: &s.Routes}}.set(text)
		if err == nil {
			if len(s.Routes) != 1 || s.Routes[0].Path == "" || len(s.Routes[0].Backends) == 0 {
				t.Fatalf("%q: %+v", text, s.Routes)
			}
			return
		}
		if len(s.Routes) != 0 {
			t.Fatalf("%q is refused and stored: %+v", text, s.Routes)
		}
		for _, fault := range err.(Faults) {
			if hint.Of(fault) == "" {
				t.Fatalf("%q: no hint: %v", text, fault)
			}
		}
	})
}

func FuzzParseOrigin(f *testing.F) {
	for _, s := range []string{"https://a.b", "https://*.a.b:1", "http://[::1]:3000", "app://x", "null", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOrigin(s)
		if err == nil && o != s || err != nil && hint.Of(err) == "" {
			t.Fatalf("%q: %q, %v", s, o, err)
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::1", "[::1]", "::ffff:1.2.3.4/128", "fe80::1%a", "0.0.0.0/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrefix(s)
		if err != nil {
			if hint.Of(err) == "" {
				t.Fatalf("%q: no hint: %v", s, err)
			}
			return
		}
		if again, err := ParsePrefix(p.String()); err != nil || again != p || !p.IsValid() {
			t.Fatalf("%q → %v → %v, %v", s, p, again, err)
		}
	})
}
