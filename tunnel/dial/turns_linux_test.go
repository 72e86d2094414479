package dial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
)

// twoAddresses returns the URL of a name with two addresses, each with a listener at the URL's port, and options
// that trust the certificates of the first result.
func twoAddresses(t *testing.T, scheme string) (ca *testnet.CA, url string, d Options, first, second net.Listener) {
	t.Helper()
	const name = "gw.example.com"
	second = testnet.Listen(t)
	_, port, _ := net.SplitHostPort(second.Addr().String())
	first, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	ca = testnet.NewCA(t, "Test CA")
	d = Options{TLS: ca.ClientConfig(), HandshakeTimeout: time.Second, Resolver: testnet.NewResolver(t, map[string][]netip.Addr{
		name: {netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")},
	})}
	return ca, scheme + "://" + name + ":" + port + "/tunnel", d, first, second
}

// accept passes the connections of ln to handle and counts them.
func accept(ln net.Listener, handle func(net.Conn)) *atomic.Int32 {
	var n atomic.Int32
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return &n
}

// serveGood serves WebSockets on ln, over TLS if ca is not nil.
func serveGood(t *testing.T, ca *testnet.CA, ln net.Listener) *atomic.Int32 {
	t.Helper()
	server := wsServer(t, nil, nil)
	var cfg *tls.Config
	if ca != nil {
		cfg = ca.ServerConfig(t, "gw.example.com")
	}
	return accept(ln, func(c net.Conn) {
		if cfg != nil {
			c = tls.Server(c, cfg)
		}
		to, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer to.Close()
		go func() {
			io.Copy(to, c)
			to.Close()
		}()
		io.Copy(c, to)
	})
}

// answering returns a handler that answers the first bytes with text and then stays silent.
func answering(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

func silent(c net.Conn) { io.Copy(io.Discard, c) }

// A path that loses large packets accepts TCP and then says nothing.
func TestAnotherAddressAfterAFailurePastTCP(t *testing.T) {
	other := testnet.NewCA(t, "Other CA")
	for _, tt := range []struct {
		name, scheme string
		handle       func(net.Conn)
		text         string
	}{
		{"TLS silent", "wss", silent, "TLS to gw.example.com"},
		{"TLS closed", "wss", func(c net.Conn) { c.Read(make([]byte, 1)) }, "during the handshake"},
		{"wrong certificate", "wss", func(c net.Conn) { tls.Server(c, other.ServerConfig(t, "gw.example.com")).Handshake() }, "unknown authority"},
		{"upgrade silent", "ws", silent, "no answer from the server in time"},
		{"404", "ws", answering("HTTP/1.1 404 Not Found\r\n\r\n"), "404 Not Found"},
		{"502", "ws", answering("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "502 Bad Gateway"},
		{"not HTTP", "ws", answering("SSH-2.0-x\r\n"), "not HTTP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca, url, d, bad, good := twoAddresses(t, tt.scheme)
			if tt.scheme == "ws" {
				ca = nil
			}
			tried := accept(bad, tt.handle)
			serveGood(t, ca, good)
			var retried []error
			d.Addresses = new(Addresses)
			d.Trace = func(e Event) {
				if e.Retry {
					retried = append(retried, e.Err)
				} else if e.Err != nil {
					t.Errorf("event %+v", e)
				}
			}
			for range 2 {
				c, err := Dial(dialCtx(t), url, &d)
				if err != nil {
					t.Fatal(err)
				}
				checkEcho(t, c)
				c.CloseNow()
			}
			if n := tried.Load(); n != 1 || len(retried) != 1 {
				t.Fatalf("the bad address was tried %d times, with the events %v", n, retried)
			}
			if text := retried[0].Error(); !strings.Contains(text, tt.text) || !strings.Contains(text, "(127.0.0.2)") {
				t.Errorf("%v", retried[0])
			}
		})
	}
}

// The server's verdict about the credentials is not asked for again.
func TestNoOtherAddressAfterARefusal(t *testing.T) {
	for _, status := range []string{"401 Unauthorized", "403 Forbidden", "429 Too Many Requests"} {
		_, url, d, first, second := twoAddresses(t, "ws")
		accept(first, answering("HTTP/1.1 "+status+"\r\n\r\n"))
		tried := serveGood(t, nil, second)
		_, err := Dial(dialCtx(t), url, &d)
		if err == nil || !strings.Contains(err.Error(), status+" (127.0.0.2)") || tried.Load() != 0 {
			t.Errorf("%v, and %d attempts at the other address", err, tried.Load())
		}
	}
}

func TestErrorNamesEveryAddress(t *testing.T) {
	_, url, d, first, second := twoAddresses(t, "ws")
	accept(first, answering("HTTP/1.1 401 No\r\n\r\n"))
	accept(second, silent)
	d.Addresses = new(Addresses)
	d.Addresses.avoid(netip.MustParseAddrPort(first.Addr().String()))
	var last error
	d.Trace = func(e Event) { last = e.Err }
	_, err := Dial(dialCtx(t), url, &d)
	var se *Error
	if !errors.As(err, &se) || se.Permanent || last != err {
		t.Fatalf("%v, last event %v", err, last)
	}
	for _, part := range []string{"upgrade to ws://gw.example.com", "401 No (127.0.0.2); upgrade: no answer from the server in time (127.0.0.1)"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	if !timedOut(err) {
		t.Error("the other cause is lost")
	}
	first.Close()
	_, err = Dial(dialCtx(t), url, &d)
	if !errors.As(err, &se) || se.Step != StepUpgrade || !strings.Contains(err.Error(), "TCP: connection refused (127.0.0.2:") {
		t.Errorf("%v", err)
	}
}

// A connection that went silent later moves its address behind the others, and one that works moves it back.
func TestSuspectedAddressWaits(t *testing.T) {
	_, url, d, first, second := twoAddresses(t, "ws")
	one, two := serveGood(t, nil, first), serveGood(t, nil, second)
	d.Addresses = new(Addresses)
	for i, want := range []string{"1 0", "1 1", "2 1", "3 1"} {
		c, err := Dial(dialCtx(t), url, &d)
		if err != nil {
			t.Fatal(err)
		}
		checkEcho(t, c)
		c.CloseNow()
		if got := fmt.Sprint(one.Load(), two.Load()); got != want {
			t.Errorf("%d: attempts %s, want %s", i, got, want)
		}
		if i < 2 { // both wait at last, in their order
			d.Addresses.Suspect(url)
		}
	}
	(*Addresses)(nil).Suspect(url)
}

// Of two families the second gets its turn after a moment, or at once after a failure.
func TestRaceOfFamilies(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 loopback: ", err)
	}
	defer ln.Close()
	v6 := netip.MustParseAddrPort(ln.Addr().String())
	v4 := netip.MustParseAddrPort(testnet.Silent(t))
	hole := netip.MustParseAddrPort(testnet.Blackhole(t))
	refused := netip.MustParseAddrPort(testnet.RefusedAddr(t))
	refused6 := netip.AddrPortFrom(v6.Addr(), 1)
	for _, tt := range []struct {
		addrs []netip.AddrPort
		want  netip.AddrPort
	}{
		{[]netip.AddrPort{v6, v4}, v6},
		{[]netip.AddrPort{v4, v6}, v4},
		{[]netip.AddrPort{hole, v6}, v6},
		{[]netip.AddrPort{refused, v6}, v6},
		{[]netip.AddrPort{refused6, refused, v4}, v4},
		{[]netip.AddrPort{refused6, refused}, netip.AddrPort{}},
	} {
		got := race(t.Context(), tt.addrs)
		if got.addr != tt.want || (got.err == nil) != tt.want.IsValid() {
			t.Errorf("%v: %v, %v", tt.addrs, got.addr, got.err)
		}
		if got.nc != nil {
			got.nc.Close()
		} else if !strings.Contains(got.err.Error(), refused6.String()) {
			t.Errorf("the error is not that of the preferred family: %v", got.err)
		}
	}
}
