package server

import (
	"net/http"
	"testing"
)

func TestOriginAllowed(t *testing.T) {
	list := []string{"https://app.example.com", "http://Dev.example.com:3000", "https://*.wild.example", "https://[2001:db8::1]:8443"}
	tests := []struct {
		listed   bool
		host     string
		origins  []string // Origin headers
		byHeader bool
		want     bool
	}{
		// Without a list of origins.
		{false, "gw.example", nil, false, true},
		{false, "gw.example", []string{"https://gw.example"}, false, true},
		{false, "gw.example", []string{"http://gw.example"}, false, true},
		{false, "gw.example:443", []string{"https://gw.example"}, false, true},
		{false, "GW.example.", []string{"https://gw.EXAMPLE"}, false, true},
		{false, "gw.example:8443", []string{"https://gw.example:8443"}, false, true},
		{false, "gw.example:8443", []string{"https://gw.example"}, false, false},
		{false, "gw.example", []string{"https://gw.example:8443"}, false, false},
		{false, "gw.example:80", []string{"https://gw.example"}, false, false},
		{false, "[::1]:9000", []string{"http://[::1]:9000"}, false, true},
		{false, "gw.example", []string{"https://evil.example"}, false, false},
		{false, "gw.example", []string{"https://gw.example.evil"}, false, false},
		{false, "gw.example", []string{"https://evil.gw.example"}, false, false},
		{false, "gw.example", []string{"null"}, false, false},
		{false, "gw.example", []string{""}, false, false},
		{false, "gw.example", []string{"gw.example"}, false, false},
		{false, "gw.example", []string{"https://gw.example/"}, false, false},
		{false, "gw.example", []string{"https://x@gw.example"}, false, false},
		{false, "gw.example", []string{"https://evil.example"}, true, false},
		{false, "", []string{"https://"}, false, false},
		{false, "gw.example", []string{"https://gw.example", "https://gw.example"}, false, false},
		// With a list.
		{true, "gw.example", nil, false, false},
		{true, "gw.example", nil, true, true},
		{true, "gw.example", []string{"https://gw.example"}, false, false},
		{true, "gw.example", []string{"https://app.example.com"}, false, true},
		{true, "gw.example", []string{"HTTPS://APP.example.com:443"}, false, true},
		{true, "gw.example", []string{"http://app.example.com"}, false, false},
		{true, "gw.example", []string{"https://app.example.com:444"}, false, false},
		{true, "gw.example", []string{"http://dev.example.com:3000"}, false, true},
		{true, "gw.example", []string{"http://dev.example.com"}, false, false},
		{true, "gw.example", []string{"https://a.wild.example"}, false, true},
		{true, "gw.example", []string{"https://a.b.wild.example"}, false, true},
		{true, "gw.example", []string{"https://wild.example"}, false, false},
		{true, "gw.example", []string{"https://notwild.example"}, false, false},
		{true, "gw.example", []string{"https://.wild.example"}, false, true}, // no page has such an Origin
		{true, "gw.example", []string{"http://a.wild.example"}, false, false},
		{true, "gw.example", []string{"https://[2001:db8::1]:8443"}, false, true},
		{true, "gw.example", []string{"https://evil.example"}, true, false},
		{true, "gw.example", []string{"null"}, true, false},
	}
	for _, test := range tests {
		def := Route{Path: "/a"}
		if test.listed {
			def.Origins = list
		}
		r := table(t, def)[0]
		who := caller{}
		if test.byHeader {
			who.means = byHeader
		}
		req := &http.Request{Host: test.host, Header: http.Header{}}
		for _, o := range test.origins {
			req.Header.Add("Origin", o)
		}
		if err := r.origins.check(req, who); (err == nil) != test.want {
			t.Errorf("list %v, host %q, Origin %q, header %v: %v", test.listed, test.host, test.origins, test.byHeader, err)
		}
	}
}

func TestOriginPatterns(t *testing.T) {
	for _, bad := range []string{"", "*", "Null", "null://*.", "app://*.", "https://", "https://*", "https://*.", "https://a.*.b", "https://*.*.b", "https://a/", "https://a/b",
		"https://a:0", "https://a:", "https://a:65536", "https://a:080", "https://u@a", "://a", "a", "a:80", "https://a b", "https://::1", "https://*.[::1]", "h ttps://a"} {
		if p, err := parseOriginPattern(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, p)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://a.example", "http://[::1]:80", "https://*.b", "null", "://", "https://a:443:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseOrigin(s)
		if err != nil {
			return
		}
		p, err := parseOriginPattern(s)
		if err != nil || p.subdomains || !p.matches(o) {
			t.Errorf("%q does not match itself: %v", s, err)
		}
		if o.scheme == "" || o.host == "" && defaultPorts[o.scheme] != "" {
			t.Errorf("%q is %+v", s, o)
		}
	})
}

// Files, sandboxed pages and apps connect if their origin is listed.
func TestOriginsOfFilesAndApps(t *testing.T) {
	listed := []string{"null", "file://", "app://.", "capacitor://localhost", "chrome-extension://abcdefghijklmnop", "vscode-webview://1a-2b"}
	r := table(t, Route{Path: "/a", Origins: listed})[0]
	none := table(t, Route{Path: "/a"})[0]
	for _, o := range listed {
		req := &http.Request{Host: "gw.example", Header: http.Header{"Origin": {o}}}
		for _, how := range []means{byNothing, byHeader, bySubprotocol, byTicket, byCertificate, byRemembered} {
			refused := o == "null" && (how == byCertificate || how == byRemembered)
			if err := r.origins.check(req, caller{means: how}); (err != nil) != refused {
				t.Errorf("%s by %v: %v", o, how, err)
			}
			if none.origins.check(req, caller{means: how}) == nil {
				t.Errorf("%s by %v passes without being listed", o, how)
			}
		}
		if !fromForeignPage(req) {
			t.Errorf("%s may open the tunnel", o)
		}
	}
	for _, o := range []string{"https://null", "file://host", "app://x", "capacitor://localhost:1", "chrome-extension://b", ""} {
		if r.origins.check(&http.Request{Host: "gw.example", Header: http.Header{"Origin": {o}}}, caller{means: byHeader}) == nil {
			t.Errorf("%q passes", o)
		}
	}
}
