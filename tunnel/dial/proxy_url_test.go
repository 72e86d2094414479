package dial

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestFixedProxy(t *testing.T) {
	for raw, want := range map[string]string{
		"none":                                 "",
		"proxy.corp:3128":                      "http://proxy.corp:3128",
		"user:p%40ss@proxy.corp:3128":          "http://user:p%40ss@proxy.corp:3128",
		"http://proxy.corp":                    "http://proxy.corp",
		"HTTPS://u:p@proxy.corp/":              "https://u:p@proxy.corp",
		"socks5://[::1]:1080":                  "socks5://[::1]:1080",
		"socks5://[::1]":                       "socks5://[::1]",
		"socks5h://user:pw@proxy.corp:1080":    "socks5h://user:pw@proxy.corp:1080",
		"http://DOMAIN%5Cuser:pw@10.0.0.1:808": "http://DOMAIN%5Cuser:pw@10.0.0.1:808",
	} {
		f, err := FixedProxy(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		for _, server := range []string{"wss://gw.example.com", "ws://127.0.0.1:1"} {
			u, _ := url.Parse(server)
			got, err := f(u)
			if err != nil || (got == nil) != (want == "") || got != nil && got.String() != want {
				t.Errorf("%s: %v, %v", raw, got, err)
			}
		}
	}
}

func TestProxyURLErrors(t *testing.T) {
	for _, tt := range []struct{ raw, text, hint string }{
		{"", "empty", "http://HOST:PORT"},
		{" ", "empty", "http://HOST:PORT"},
		{"ftp://proxy:21", "the scheme is not one of", "http://HOST:PORT"},
		{"socks4://proxy", "the scheme is not one of", "http://HOST:PORT"},
		{"http://", "names no host", "http://HOST:PORT"},
		{"http://:3128", "names no host", "http://HOST:PORT"},
		{"http://proxy:0", `port "0"`, "http://HOST:PORT"},
		{"http://proxy:99999", `port "99999"`, "http://HOST:PORT"},
		{"http://proxy:3128/path", "has a path", "http://HOST:PORT"},
		{"http://proxy:", `port ""`, "http://HOST:PORT"},
		{"http://a\\b:3128", "is not a URL", "http://HOST:PORT"},
		{"http://user:1@" + secret + "/x@proxy:1", "special character", "percent-encode"},
		{"ftp://user:1@" + secret + "?@proxy:1", "special character", "percent-encode"},
		{"http://proxy:port", `"http://proxy:…" is not a URL`, "percent-encode"},
		{"http://user:" + secret, `"http://user:…" is not a URL`, "percent-encode"},
		{"http://user:" + secret + "/x@proxy:1", `"http://***@proxy:…" is not a URL`, "percent-encode"},
		{"http://user:1234#" + secret + "@proxy:1", "special character", "percent-encode"},
		{"http://user:12%zz" + secret + "@proxy:1", "is not a URL", "%25"},
		{"user:" + secret + " x@proxy:1", "is not a URL", "percent-encode"},
		{"http://a%3Ab:" + secret + "@proxy:1", "colon", "http://HOST:PORT"},
		{"socks5://:" + secret + "@proxy:1", "1 to 255", "http://HOST:PORT"},
		{"socks5://u:" + strings.Repeat(secret, 99) + "@proxy:1", "1 to 255", "http://HOST:PORT"},
	} {
		_, err := FixedProxy(tt.raw)
		var se *Error
		if !errors.As(err, &se) {
			t.Errorf("%q: %v", tt.raw, err)
			continue
		}
		t.Log(err)
		if se.Step != StepConfiguration || se.Addr != "--proxy" || !se.Permanent || !strings.Contains(err.Error(), tt.text) || !strings.Contains(se.Hint(), tt.hint) {
			t.Errorf("%q: %v; %s", tt.raw, err, se.Hint())
		}
		if strings.Contains(err.Error()+se.Hint(), secret) {
			t.Errorf("the password shows in %v", err)
		}
	}
}

func TestProxyFromValues(t *testing.T) {
	const s, h, a = "http://secure:1", "http://plain:2", "socks5://all:3"
	for _, tt := range []struct {
		https, http, all, no string
		server, want         string
	}{
		{"", "", "", "", "wss://gw.example.com", ""},
		{s, h, a, "", "wss://gw.example.com", s},
		{s, h, a, "", "ws://gw.example.com", h},
		{"", h, a, "", "wss://gw.example.com", a},
		{s, "", a, "", "ws://gw.example.com", a},
		{s, "", "", "", "ws://gw.example.com", ""},
		{"proxy:1", "", "", "", "wss://gw.example.com", "http://proxy:1"},
		{"http://u:p%40@x:1", "", "", "", "wss://gw.example.com", "http://u:p%40@x:1"},
		{s, h, a, "", "wss://localhost", ""},
		{s, h, a, "", "wss://LOCALHOST.:444", ""},
		{s, h, a, "", "wss://127.9.9.9", ""},
		{s, h, a, "", "wss://[::1]:444", ""},
		{s, h, a, "*", "wss://gw.example.com", ""},
		{s, h, a, "example.com", "wss://gw.example.com", ""},
		{s, h, a, "example.com", "wss://GW.Example.COM.", ""},
		{s, h, a, "example.com", "wss://notexample.com", s},
		{s, h, a, ".example.com", "wss://example.com", s},
		{s, h, a, "x, .example.com", "wss://gw.example.com", ""},
		{s, h, a, "gw.example.com:443", "wss://gw.example.com", ""},
		{s, h, a, "gw.example.com:80", "wss://gw.example.com", s},
		{s, h, a, "10.0.0.0/8", "wss://10.1.2.3:8443", ""},
		{s, h, a, "10.0.0.0/8", "wss://11.1.2.3:8443", s},
		{s, h, a, "fd00::/8", "wss://[fd00::1]", ""},
		{s, h, a, "10.1.2.3", "wss://10.1.2.3", ""},
		{s, h, a, "[fd00::1]", "wss://[fd00::1]", ""},
		{s, h, a, "[fd00::1]", "wss://[fd00::2]", s},
		{s, h, a, "[fd00::1]:443", "wss://[fd00::1]", ""},
		{s, h, a, "[fd00::1]:80", "wss://[fd00::1]", s},
		{s, h, a, "[fd00::]/8", "wss://[fd00::1]", ""},
		{s, h, a, "[fd00::/8]", "wss://[fd00::1]", ""},
		{s, h, a, "x.lan gw.example.com", "wss://gw.example.com", ""},
		{s, h, a, "x.lan gw.example.com\t10.0.0.0/8", "wss://10.1.2.3", ""},
		{s, h, a, "x.lan *", "wss://gw.example.com", ""},
		{s, h, a, "gw.example.com.", "wss://gw.example.com", ""},
		{s, h, a, ".example.com.", "wss://gw.example.com", ""},
		{s, h, a, "gw.example.com.:443", "wss://gw.example.com", ""},
		{s, h, a, "b\u00fccher.example.", "wss://xn--bcher-kva.example", ""},
		{s, h, a, ". , :1 []", "wss://gw.example.com", s},
	} {
		f, err := ProxyFromValues(tt.https, tt.http, tt.all, tt.no)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		u, err := url.Parse(tt.server)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f(u)
		if err != nil || (got == nil) != (tt.want == "") || got != nil && got.String() != tt.want {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
	}

	for _, tt := range []struct{ https, http, all, name string }{
		{"ftp://x", "", "", "HTTPS_PROXY"}, {"", "http://", "", "HTTP_PROXY"}, {"", "", "socks4://x", "ALL_PROXY"},
	} {
		_, err := ProxyFromValues(tt.https, tt.http, tt.all, "")
		var se *Error
		if !errors.As(err, &se) || se.Addr != tt.name || se.Hint() == "" {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func FuzzProxyURL(f *testing.F) {
	for _, s := range [][3]string{
		{"http://", "", "@proxy:1"}, {"", "/", "@proxy"}, {"socks5://", "#", "@[::1]:1"}, {"https://", "%", "@h?x"}, {"http:", "\\", "@h/"}, {"", "@", "@://h"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	// Whatever surrounds a password, the error does not contain it.
	f.Fuzz(func(t *testing.T, before, in, after string) {
		if !strings.HasPrefix(after, "@") || strings.Contains(before, "@") {
			return
		}
		raw := before + "user:" + secret + in + secret + after
		_, err := FixedProxy(raw)
		if err == nil {
			return
		}
		var se *Error
		if !errors.As(err, &se) {
			t.Fatalf("%q: %T", raw, err)
		}
		if strings.Contains(err.Error()+se.Hint(), secret) {
			t.Fatalf("%q: the password shows in %v", raw, err)
		}
	})
}
