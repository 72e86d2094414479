package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func trusting(networks ...string) (t trustedProxies) {
	for _, n := range networks {
		t = append(t, netip.MustParsePrefix(n))
	}
	return t
}

func TestClientAddr(t *testing.T) {
	s := trusting("10.0.0.0/8", "2001:db8::/32")
	tests := []struct {
		peer, x, f string
		want       string
	}{
		{"192.0.2.1:5", "", "", "192.0.2.1:5"},
		{"192.0.2.1:5", "198.51.100.7", "for=198.51.100.7", "192.0.2.1:5"}, // from a peer that is not trusted
		{"10.0.0.1:5", "", "", "10.0.0.1:5"},
		{"[::ffff:10.0.0.1]:5", "198.51.100.7", "", "198.51.100.7:0"},
		{"10.0.0.1:5", "198.51.100.7", "", "198.51.100.7:0"},
		{"10.0.0.1:5", " 198.51.100.7 , 10.2.3.4", "", "198.51.100.7:0"},
		{"10.0.0.1:5", "6.6.6.6, 198.51.100.7, 10.2.3.4", "", "198.51.100.7:0"}, // the leftmost is forged
		{"10.0.0.1:5", "6.6.6.6\n198.51.100.7", "", "198.51.100.7:0"},           // several headers
		{"10.0.0.1:5", "10.5.5.5, 10.2.3.4", "", "10.5.5.5:0"},                  // all are trusted
		{"10.0.0.1:5", "6.6.6.6, unknown", "", "10.0.0.1:5"},
		{"10.0.0.1:5", "6.6.6.6, junk, 10.2.3.4", "", "10.2.3.4:0"},
		{"10.0.0.1:5", "198.51.100.7:1234", "", "198.51.100.7:1234"},
		{"10.0.0.1:5", "[2001:DB9::1]:1234", "", "[2001:db9::1]:1234"},
		{"10.0.0.1:5", "2001:db9::1", "", "[2001:db9::1]:0"},
		{"10.0.0.1:5", "198.51.100.7:99999", "", "10.0.0.1:5"},
		{"10.0.0.1:5", "::ffff:198.51.100.7", "", "198.51.100.7:0"},
		{"10.0.0.1:5", "fe80::1%eth0", "", "[fe80::1]:0"},
		{"10.0.0.1:5", "", `for=198.51.100.7;proto=https`, "198.51.100.7:0"},
		{"10.0.0.1:5", "", `proto=https;FOR="[2001:db9::1]:47";by=10.0.0.1, for=10.9.9.9`, "[2001:db9::1]:47"},
		{"10.0.0.1:5", "", `for="198.51.100.7:_x"`, "198.51.100.7:0"},
		{"10.0.0.1:5", "", `for=6.6.6.6, for=_hidden`, "10.0.0.1:5"},
		{"10.0.0.1:5", "", `for=6.6.6.6, by=10.0.0.1`, "10.0.0.1:5"},
		{"10.0.0.1:5", "", `for="6.6.6.6, for=198.51.100.7`, "10.0.0.1:5"},
		{"10.0.0.1:5", "198.51.100.7", "for=198.51.100.7:80", "198.51.100.7:80"},
		{"10.0.0.1:5", "198.51.100.7", "for=6.6.6.6", "10.0.0.1:5"}, // which one did the proxy set?
		{"[2001:db8::9]:5", "198.51.100.7", "", "198.51.100.7:0"},
		{"@", "198.51.100.7", "", "198.51.100.7:0"}, // a unix socket
		{"@", "", "", "invalid AddrPort"},
	}
	for _, test := range tests {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
		for _, v := range strings.Split(test.x, "\n") {
			if v != "" {
				r.Header.Add("X-Forwarded-For", v)
			}
		}
		if test.f != "" {
			r.Header.Add("Forwarded", test.f)
		}
		if got := s.clientAddr(r).String(); got != test.want {
			t.Errorf("%s, X-Forwarded-For %q, Forwarded %q: %s, want %s", test.peer, test.x, test.f, got, test.want)
		}
	}
	r := &http.Request{RemoteAddr: "@", Header: http.Header{"X-Forwarded-For": {"198.51.100.7"}}}
	if got := trusting().clientAddr(r); got.IsValid() {
		t.Errorf("without trusted proxies: %s", got)
	}
}

// The client is never an address that no trusted proxy has added.
func FuzzForwarded(f *testing.F) {
	f.Add("1.2.3.4, 10.0.0.1", `for="[::1]:5", for=x`)
	f.Add("1.2.3.4", `for="`)
	s := trusting("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, x, fw string) {
		for _, h := range []http.Header{
			{"X-Forwarded-For": {"6.6.6.6," + x, "198.51.100.7"}},
			{"Forwarded": {fw, "for=198.51.100.7"}},
		} {
			r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: h}
			if got := s.clientAddr(r); got.Addr() != addr("198.51.100.7") {
				t.Errorf("%v: %s", h, got)
			}
		}
		s.clientAddr(&http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{"X-Forwarded-For": {x}, "Forwarded": {fw}}})
	})
}

func TestProxyHeader(t *testing.T) {
	local := &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 443}
	client := netip.MustParseAddrPort("198.51.100.7:1234")
	six := netip.MustParseAddrPort("[2001:db8::1]:0")
	tests := []struct {
		version string
		client  netip.AddrPort
		local   net.Addr
		want    string
	}{
		{"", client, local, ""},
		{"off", client, local, ""},
		{"v1", client, local, "PROXY TCP4 198.51.100.7 192.0.2.1 1234 443\r\n"},
		{"v1", six, local, "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 443\r\n"},
		{"v1", client, &net.UnixAddr{Name: "x"}, "PROXY TCP4 198.51.100.7 0.0.0.0 1234 0\r\n"},
		{"v1", six, &net.UnixAddr{Name: "x"}, "PROXY TCP6 2001:db8::1 :: 0 0\r\n"},
		{"v1", netip.AddrPort{}, local, "PROXY UNKNOWN\r\n"},
		{"v1", client, nil, "PROXY TCP4 198.51.100.7 0.0.0.0 1234 0\r\n"},
		{"v2", client, local, string(proxyproto.SIGV2) + "\x21\x11\x00\x0c" + "\xc6\x33\x64\x07\xc0\x00\x02\x01\x04\xd2\x01\xbb"},
		{"v2", netip.AddrPort{}, local, string(proxyproto.SIGV2) + "\x20\x00\x00\x00"},
	}
	for _, test := range tests {
		got, err := proxyHeader(test.version, test.client, test.local)
		if err != nil || string(got) != test.want {
			t.Errorf("%s %v %v: %q, %v, want %q", test.version, test.client, test.local, got, err, test.want)
		}
	}
}
