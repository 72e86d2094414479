package dial

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/ws"
)

// pinError is an error with a hint, like that of package certs.
type pinError struct{}

func (pinError) Error() string { return "the pin does not match" }
func (pinError) Hint() string  { return "compare the pins" }

const secret = "s3cr3t"

// A socket that is closed before TLS begins, as by the end of the context, gives a TLS error.
func TestClosedBeforeTLS(t *testing.T) {
	for _, proxy := range []string{"", "https"} {
		d := Options{}
		if proxy != "" {
			d.Proxy = always(&url.URL{Scheme: proxy, Host: "proxy.example.com"})
		}
		a, err := d.plan("wss://gw.example.com")
		if err != nil {
			t.Fatal(err)
		}
		nc, _ := testnet.Pair(t, "tcp")
		nc.Close()
		var step *Error
		if _, err = a.handshakes(t.Context(), nc); !errors.As(err, &step) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// Rare failures of the network have hints, too.
func TestRareFailures(t *testing.T) {
	a := &attempt{Options: &Options{}}
	for _, err := range []error{syscall.EADDRNOTAVAIL, syscall.EINVAL} {
		if text, hint := a.tcpFailure(err); text == nil || hint == "" {
			t.Errorf("TCP: %v: %v, %q", err, text, hint)
		}
	}
	if text, hint := a.dnsFailure(syscall.EINVAL); text == nil || hint == "" {
		t.Errorf("DNS: %v, %q", text, hint)
	}
}

// TestDialErrors has every failure: its step, error, hint, and whether it is permanent.
func TestDialErrors(t *testing.T) {
	ca := testnet.NewCA(t, "Test CA")
	corp := testnet.NewCA(t, "Corp Inspection CA")
	tlsServer := func(t *testing.T, l testnet.Leaf) string {
		return wsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, l)}}, nil)
	}
	proxied := func(d *Options, scheme, addr string) {
		d.Proxy = always(&url.URL{Scheme: scheme, Host: addr, User: url.UserPassword("user", secret)})
	}
	const target = "wss://gw.example.com/tunnel"
	raw := func(reply string) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string { return "ws://" + testnet.Reply(t, reply) + "/tunnel" }
	}
	closing := func(reply string) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string {
			return "ws://" + testnet.Serve(t, func(c net.Conn) {
				c.Read(make([]byte, 4096))
				c.Write([]byte(reply))
			})
		}
	}
	connect := func(reply string) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{Raw: []byte(reply)})
			proxied(d, "http", p.Addr())
			return target
		}
	}
	status := func(s string) func(*testing.T, *Options) string {
		return raw("HTTP/1.1 " + s + "\r\nContent-Length: 0\r\n\r\n")
	}
	socks := func(o testnet.SOCKSOptions) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string {
			proxied(d, "socks5", testnet.NewSOCKS(t, o).Addr())
			return target
		}
	}
	fixed := func(rawURL string, set func(*Options)) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string {
			if set != nil {
				set(d)
			}
			return rawURL
		}
	}
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	reply101 := func(more string, right bool) func(*testing.T, *Options) string {
		return func(t *testing.T, d *Options) string {
			return "ws://" + testnet.Serve(t, func(c net.Conn) {
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				key := "x"
				if _, rest, ok := strings.Cut(string(b[:n]), "Sec-WebSocket-Key: "); ok && right {
					key, _, _ = strings.Cut(rest, "\r\n")
				}
				c.Write([]byte(upgraded + "Sec-WebSocket-Accept: " + ws.AcceptKey(key) + "\r\n" + more + "\r\n"))
				c.Read(b)
			})
		}
	}

	for _, tt := range []struct {
		name      string
		set       func(*testing.T, *Options) string
		step      Step
		text      string // parts of the error, separated by |
		hint      string // part of the hint
		permanent bool
	}{
		// Configuration.
		{"no scheme", fixed("gw.example.com", nil), StepConfiguration, "no scheme", "wss://HOST", true},
		{"other scheme", fixed("ftp://gw.example.com", nil), StepConfiguration, "neither wss nor ws", "wss://HOST", true},
		{"secret in query", fixed("wss://h:x/?token="+secret, nil), StepConfiguration, "wss://h:x/: not a URL", "wss://HOST", true},
		{"secret behind @", fixed("wss://h:x/?token=a@"+secret, nil), StepConfiguration, "wss://***: not a URL", "wss://HOST", true},
		{"space", fixed("wss://a b", nil), StepConfiguration, "not a URL: invalid character", "wss://HOST", true},
		{"https", fixed("https://gw.example.com", nil), StepConfiguration, `the scheme is "https"`, "write wss://", true},
		{"no host", fixed("wss:///x", nil), StepConfiguration, "no host", "wss://HOST", true},
		{"bad port", fixed("wss://h:70000", nil), StepConfiguration, `port "70000"`, "wss://HOST", true},
		{"not a URL", fixed("wss://user:"+secret+"@h:x y", nil), StepConfiguration, "wss://***@h|not a URL", "wss://HOST", true},
		{"user in URL", fixed("wss://user:"+secret+"@h", nil), StepConfiguration, "user name in the address", "--token-file", true},
		{"fragment", fixed("wss://h/#x", nil), StepConfiguration, "fragment", "wss://HOST", true},
		{"bad connect-to", fixed(target, func(d *Options) { d.ConnectTo = "host" }), StepConfiguration, `connect to "host"`, "--connect-to", true},
		{"bad host header", fixed(target, func(d *Options) { d.Host = "a\r\nb" }), StepConfiguration, "Host header", "--host", true},
		{"bad header name", fixed(target, func(d *Options) { d.Header = http.Header{"a b": {"x"}} }), StepConfiguration, `"a b"`, "--header", true},
		{"bad header value", fixed(target, func(d *Options) { d.Header = http.Header{"A": {secret + "\r\n"}} }), StepConfiguration, "header A", "control", true},
		{"handshake header", fixed(target, func(d *Options) { d.Header = http.Header{"Upgrade": {"x"}} }), StepConfiguration, "Upgrade", "--header", true},
		{"proxy chooser", fixed(target, func(d *Options) {
			d.Proxy = func(*url.URL) (*url.URL, error) { return nil, errors.New("no idea") }
		}), StepConfiguration, "no idea", "proxy settings", true},
		{"proxy scheme", fixed(target, func(d *Options) { proxied(d, "ftp", "h") }), StepConfiguration, `proxy "ftp://***@h"`, "proxy settings", true},
		{"token unreadable", fixed(target, func(d *Options) {
			d.Authorization = func() (string, error) { return "", errors.New("no such file") }
		}), StepAuthentication, "no such file", "token", false},
		{"token with newline", fixed(target, func(d *Options) {
			d.Authorization = func() (string, error) { return "Bearer " + secret + "\n", nil }
		}), StepAuthentication, "control characters", "token", true},

		// DNS.
		{"no such name", func(t *testing.T, d *Options) string {
			d.Resolver = testnet.NewResolver(t, nil)
			return "wss://nowhere.example.com"
		}, StepDNS, "DNS for nowhere.example.com: there is no such name", "--proxy", false},
		{"no such proxy", func(t *testing.T, d *Options) string {
			d.Resolver = testnet.NewResolver(t, nil)
			proxied(d, "http", "proxy.example.com:3128")
			return target
		}, StepDNS, "DNS for proxy.example.com", "proxy's name", false},
		{"name server fails", func(t *testing.T, d *Options) string {
			d.Resolver = testnet.NewResolver(t, nil)
			return "wss://broken.example.com"
		}, StepDNS, "the name server|fails", "the resolver itself", false},
		{"name server silent", func(t *testing.T, d *Options) string {
			d.Resolver = testnet.NewResolver(t, nil)
			d.ConnectTimeout = 100 * time.Millisecond
			return "wss://silent.example.com"
		}, StepDNS, "no answer from the name server", "resolver", false},

		// TCP.
		{"refused", func(t *testing.T, d *Options) string { return "wss://" + testnet.RefusedAddr(t) }, StepTCP, "TCP to 127.0.0.1:|: connection refused", "the server is running", false},
		{"proxy refused", func(t *testing.T, d *Options) string {
			proxied(d, "http", testnet.RefusedAddr(t))
			return target
		}, StepTCP, "connection refused", "the proxy is running", false},

		// HTTP proxies.
		{"407", func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{User: "user", Password: "x"})
			d.Proxy = always(&url.URL{Scheme: "http", Host: p.Addr()})
			return target
		}, StepProxy, "CONNECT gw.example.com:443: 407 Proxy Authentication Required (offers Basic)", "http://USER:PASSWORD@127.0.0.1", true},
		{"407 rejected", func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{User: "user", Password: "x"})
			proxied(d, "http", p.Addr())
			return target
		}, StepProxy, "407 Proxy Authentication Required", "rejected the user name or password", true},
		{"407 NTLM", connect("HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate, NTLM TlRM\r\nProxy-Authenticate: Digest realm=\"a, b\", nonce=\"x\"\r\n\r\n"),
			StepProxy, "407 Auth (offers Negotiate, NTLM, Digest)", "only Basic", true},
		{"403", func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{Allow: func(string) bool { return false }})
			proxied(d, "http", p.Addr())
			return target
		}, StepProxy, "403 Forbidden (ERR_ACCESS_DENIED 0)", "allow CONNECT to gw.example.com:443", true},
		{"403 port", func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{Allow: func(string) bool { return false }})
			proxied(d, "http", p.Addr())
			return "wss://gw.example.com:8443"
		}, StepProxy, "403 Forbidden", "port 443 only", true},
		{"502", func(t *testing.T, d *Options) string {
			p := testnet.NewProxy(t, testnet.ProxyOptions{})
			proxied(d, "http", p.Addr())
			return "wss://" + testnet.RefusedAddr(t)
		}, StepProxy, "502 Bad Gateway", "cannot reach 127.0.0.1", false},
		{"reason phrase", connect("HTTP/1.1 503 Gone \x1b[31mfishing\r\n\r\n"), StepProxy, "503 Gone ?[31mfishing", "cannot reach", false},
		{"captive portal", connect("HTTP/1.1 302 Found\r\nLocation: http://x\r\n\r\n"), StepProxy, "302 Found", "captive portal", false},
		{"no CONNECT", connect("HTTP/1.1 405 Method Not Allowed\r\n\r\n"), StepProxy, "405 Method Not Allowed", "forward proxy", false},
		{"proxy garbage", connect("SSH-2.0-OpenSSH_9.2\r\n"), StepProxy, `the reply is not HTTP, it begins with "SSH-2.0`, "not an HTTP proxy", false},
		{"proxy TLS", connect("\x15\x03\x01\x00\x02\x02\x16"), StepProxy, "not HTTP", "https://", false},
		{"proxy SOCKS", connect("\x05\xff"), StepProxy, "not HTTP", "socks5://", false},
		{"proxy bad status", connect("HTTP/1.1 abc\r\n\r\n"), StepProxy, "status line is malformed", "check the address", false},
		{"proxy oversized", connect("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxReplyHead) + "\r\n\r\n"), StepProxy, "exceeds 16 KiB", "", false},
		{"proxy endless", connect("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxReplyHead/6)), StepProxy, "exceeds 16 KiB", "", false},
		{"proxy endless interim", connect(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxReplyHead/24)), StepProxy, "exceeds 16 KiB", "", false},
		{"proxy closes", func(t *testing.T, d *Options) string {
			proxied(d, "http", testnet.NewProxy(t, testnet.ProxyOptions{Raw: []byte{}, CloseAfterRaw: true}).Addr())
			return target
		}, StepProxy, "closed the connection without an answer", "admits this host", false},
		{"proxy closes early", func(t *testing.T, d *Options) string {
			proxied(d, "http", testnet.NewProxy(t, testnet.ProxyOptions{Raw: []byte("HTTP/1.1 20"), CloseAfterRaw: true}).Addr())
			return target
		}, StepProxy, "in the middle of its reply", "log", false},
		{"proxy silent", func(t *testing.T, d *Options) string {
			proxied(d, "http", testnet.NewProxy(t, testnet.ProxyOptions{Hang: true}).Addr())
			d.HandshakeTimeout = 50 * time.Millisecond
			return target
		}, StepProxy, "CONNECT gw.example.com:443: no answer from the proxy in time", "the proxy", false},
		{"https proxy unknown authority", func(t *testing.T, d *Options) string {
			proxied(d, "https", testnet.NewProxy(t, testnet.ProxyOptions{TLS: corp.ServerConfig(t)}).Addr())
			return target
		}, StepProxy, `TLS: the certificate is signed by an unknown authority; the proxy presented|issued by "CN=Corp Inspection CA"`, "this system trusts", true},
		{"https proxy name", func(t *testing.T, d *Options) string {
			proxied(d, "https", testnet.NewProxy(t, testnet.ProxyOptions{TLS: ca.ServerConfig(t, "x.example.com")}).Addr())
			return target
		}, StepProxy, "TLS: |127.0.0.1|; the proxy presented", "the proxy's address", true},
		{"https proxy plain", func(t *testing.T, d *Options) string {
			proxied(d, "https", testnet.Reply(t, "HTTP/1.1 400 Bad Request\r\n\r\n"))
			return target
		}, StepProxy, "the proxy speaks plain HTTP", "http://", false},

		// SOCKS5 proxies.
		{"SOCKS password wanted", func(t *testing.T, d *Options) string {
			p := testnet.NewSOCKS(t, testnet.SOCKSOptions{User: "user", Password: "x"})
			d.Proxy = always(&url.URL{Scheme: "socks5", Host: p.Addr()})
			return target
		}, StepProxy, "requires authentication", "socks5://USER:PASSWORD@", true},
		{"SOCKS password wrong", socks(testnet.SOCKSOptions{User: "user", Password: "x"}), StepProxy, "rejected the user name or password", "check the user name", true},
		{"SOCKS rules", socks(testnet.SOCKSOptions{Refuse: 2}), StepProxy, "SOCKS5 connect to gw.example.com:443: the proxy answered: connection not allowed", "rules forbid", true},
		{"SOCKS unreachable", socks(testnet.SOCKSOptions{Refuse: 4}), StepProxy, "host unreachable", "cannot reach", false},
		{"SOCKS refused", socks(testnet.SOCKSOptions{Refuse: 5}), StepProxy, "connection refused", "nothing listens", false},
		{"SOCKS failure", socks(testnet.SOCKSOptions{Refuse: 1}), StepProxy, "general SOCKS server failure", "log", false},
		{"SOCKS is HTTP", func(t *testing.T, d *Options) string {
			proxied(d, "socks5", testnet.Reply(t, "HTTP/1.1 400 Bad Request\r\n\r\n"))
			return target
		}, StepProxy, "not SOCKS5 but HTTP", "http://", false},
		{"SOCKS garbage", func(t *testing.T, d *Options) string {
			proxied(d, "socks5", testnet.Reply(t, "\x04\x00"))
			return target
		}, StepProxy, "not SOCKS5", "not a SOCKS5 proxy", false},
		{"SOCKS silent", func(t *testing.T, d *Options) string {
			proxied(d, "socks5", testnet.Silent(t))
			d.HandshakeTimeout = 50 * time.Millisecond
			return target
		}, StepProxy, "no answer from the proxy in time", "the proxy", false},
		{"SOCKS closes", func(t *testing.T, d *Options) string {
			proxied(d, "socks5", testnet.Serve(t, func(c net.Conn) { c.Read(make([]byte, 99)) }))
			return target
		}, StepProxy, "closed the connection during", "SOCKS5 proxy", false},

		{"page behind CONNECT 200", connect("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Blocked"), StepTLS, "the proxy answered 200 to CONNECT|a page of its own", "the proxy blocks this destination", false},
		{"reply behind CONNECT 200", connect("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 403 Blocked\r\n\r\n"), StepTLS, "a page of its own", "allow CONNECT to gw.example.com:443", false},
		{"page behind CONNECT 200, plain", func(t *testing.T, d *Options) string {
			connect("HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE html>")(t, d)
			return "ws://gw.example.com/tunnel"
		}, StepUpgrade, "a page of its own", "the proxy blocks this destination", false},
		{"CONNECT 511", connect("HTTP/1.1 511 Network Authentication Required\r\n\r\n"), StepProxy, "511", "captive portal", false},
		{"CONNECT 404", connect("HTTP/1.1 404 Not Found\r\n\r\n"), StepProxy, "404", "not a web server", false},

		// TLS.
		{"leaf without its intermediate", func(t *testing.T, d *Options) string {
			return "wss://" + wsServer(t, corp.ServerConfig(t), nil)
		}, StepTLS, "unknown authority", "without the intermediate", true},
		{"unknown authority", func(t *testing.T, d *Options) string {
			return "wss://" + wsServer(t, corp.ServerConfig(t), nil)
		}, StepTLS, `unknown authority; the server presented|issued by "CN=Corp Inspection CA"`, "--ca", true},
		{"self-signed", func(t *testing.T, d *Options) string {
			return "wss://" + tlsServer(t, testnet.Leaf{CommonName: "me", SelfSigned: true})
		}, StepTLS, `unknown authority|issued by "CN=me"`, "self-signed: pin it with --pin", true},
		{"name mismatch", func(t *testing.T, d *Options) string {
			d.ConnectTo = tlsServer(t, testnet.Leaf{Names: []string{"other.example.com"}})
			return target
		}, StepTLS, `TLS to 127.0.0.1|valid for other.example.com, not gw.example.com|issued by "CN=Test CA"`, "--server-name", true},
		{"name mismatch of a self-signed certificate", func(t *testing.T, d *Options) string {
			d.ConnectTo = tlsServer(t, testnet.Leaf{Names: []string{"other.example.com"}, SelfSigned: true})
			return target
		}, StepTLS, `valid for other.example.com, not gw.example.com`, "self-signed: pin it with --pin", true},
		{"expired", func(t *testing.T, d *Options) string {
			return "wss://" + tlsServer(t, testnet.Leaf{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
		}, StepTLS, `expired on 20|issued by "CN=Test CA"`, "renew", true},
		{"not yet valid", func(t *testing.T, d *Options) string {
			return "wss://" + tlsServer(t, testnet.Leaf{NotBefore: time.Now().Add(24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)})
		}, StepTLS, "not valid before 20", "clock", false},
		{"pin", func(t *testing.T, d *Options) string {
			d.TLS = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return pinError{} }}
			return "wss://" + wsServer(t, corp.ServerConfig(t), nil)
		}, StepTLS, `the pin does not match; the server presented|issued by "CN=Corp Inspection CA"`, "compare the pins", true},
		{"client certificate wanted", func(t *testing.T, d *Options) string {
			cfg := ca.ServerConfig(t)
			cfg.ClientAuth = tls.RequireAnyClientCert
			return "wss://" + wsServer(t, cfg, nil)
		}, StepTLS, "certificate required", "--cert", true},
		{"client certificate wanted, TLS 1.2", func(t *testing.T, d *Options) string {
			cfg := ca.ServerConfig(t)
			cfg.ClientAuth, cfg.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
			return "wss://" + wsServer(t, cfg, nil)
		}, StepTLS, `refused with the alert "handshake failure"`, "--cert", false},
		{"client certificate refused", func(t *testing.T, d *Options) string {
			cfg := ca.ServerConfig(t)
			cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
			d.TLS = ca.ClientConfig()
			cert := corp.Issue(t, testnet.Leaf{Client: true})
			d.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			return "wss://" + wsServer(t, cfg, nil)
		}, StepTLS, "refused with the alert", "client certificate", true},
		{"too old", func(t *testing.T, d *Options) string {
			cfg := ca.ServerConfig(t)
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return "wss://" + wsServer(t, cfg, nil)
		}, StepTLS, "protocol version not supported", "too old", false},
		{"no http/1.1", func(t *testing.T, d *Options) string {
			cfg := ca.ServerConfig(t)
			cfg.NextProtos = []string{"other"} // crypto/tls accepts h2 alone
			return "wss://" + wsServer(t, cfg, nil)
		}, StepTLS, "no application protocol", "http/1.1", false},
		{"plain HTTP port", func(t *testing.T, d *Options) string {
			return "wss://" + wsServer(t, nil, nil)
		}, StepTLS, "plain HTTP on this port", "ws://", false},
		{"SSH port", func(t *testing.T, d *Options) string { return "wss://" + testnet.Reply(t, "SSH-2.0-OpenSSH\r\n") }, StepTLS, "SSH", "port", false},
		{"TLS garbage", func(t *testing.T, d *Options) string {
			return "wss://" + testnet.Reply(t, "\x16\x03\x03\x00\x04\x02\x00\x00\x00")
		}, StepTLS, "error decoding message", "the log of the server", false},
		{"TLS silent", func(t *testing.T, d *Options) string {
			d.HandshakeTimeout = 50 * time.Millisecond
			return "wss://" + testnet.Silent(t)
		}, StepTLS, "no answer from the server in time", "may not speak TLS", false},
		{"TLS closes", func(t *testing.T, d *Options) string {
			return "wss://" + testnet.Serve(t, func(c net.Conn) { c.Read(make([]byte, 9999)) })
		}, StepTLS, "closed the connection during the handshake", "firewall", false},
		{"TLS reset", func(t *testing.T, d *Options) string {
			return "wss://" + testnet.Serve(t, func(c net.Conn) {
				c.Read(make([]byte, 1))
				c.(*net.TCPConn).SetLinger(0)
			})
		}, StepTLS, "reset the connection during the handshake", "firewall", false},

		// The upgrade.
		{"upgrade 200", status("200 OK"), StepUpgrade, "/tunnel: 200 OK", "ordinary web page", false},
		{"upgrade 301", raw("HTTP/1.1 301 Moved\r\nLocation: https://user:" + secret + "@login.example.com/x?y=" + secret + "\r\n\r\n"), StepUpgrade, "301 Moved (to https://***@login.example.com/x)", "redirects", false},
		{"upgrade 400", status("400 Bad Request"), StepUpgrade, "400 Bad Request", "WebSocket request", false},
		{"upgrade 401", raw("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n\r\n"), StepUpgrade, "401 Unauthorized (offers Bearer)", "--token-file", true},
		{"upgrade 403", status("403 Forbidden"), StepUpgrade, "403 Forbidden", "forbids", true},
		{"upgrade 404", status("404 Not Found"), StepUpgrade, "404 Not Found", "the path or the token is not accepted; the server answers both alike", true},
		{"upgrade 401, no token", status("401 Unauthorized"), StepUpgrade, "401", "none were given", true},
		{"upgrade 404, no token", status("404 Not Found"), StepUpgrade, "404", "no token was given: name its file with --token-file", true},
		{"upgrade 404, a token", func(t *testing.T, d *Options) string {
			d.Authorization = func() (string, error) { return "Bearer x", nil }
			return status("404 Not Found")(t, d)
		}, StepUpgrade, "404", "answers both alike; a front that loses the upgrade", true},
		{"upgrade 404, path /", func(t *testing.T, d *Options) string {
			return strings.TrimSuffix(status("404 Not Found")(t, d), "tunnel")
		}, StepUpgrade, "404", "leave out the slash", true},
		{"upgrade 511", status("511 Network Authentication Required"), StepUpgrade, "511", "captive portal", false},
		{"front wants a client certificate", func(t *testing.T, d *Options) string {
			ln := testnet.Listen(t)
			return "wss://" + serveHTTP(t, tls.NewListener(ln, ca.ServerConfig(t)), ln.Addr().String(), func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "<center>No required SSL certificate was sent</center>", 400)
			})
		}, StepUpgrade, "client certificate", "--cert and --key", true},
		{"upgrade 407", raw("HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"), StepUpgrade, "407 No (offers NTLM)", "--proxy", true},
		{"upgrade 426", status("426 Upgrade Required"), StepUpgrade, "426", "removes the upgrade", false},
		{"upgrade 429", status("429 Too Many Requests"), StepUpgrade, "429", "wait", false},
		{"upgrade 500", status("500 Oops"), StepUpgrade, "500 Oops", "log", false},
		{"upgrade 502", status("502 Bad Gateway"), StepUpgrade, "502 Bad Gateway", "reverse proxy", false},
		{"upgrade 504", status("504"), StepUpgrade, ": 504", "reverse proxy", false},
		{"TLS port, Go", func(t *testing.T, d *Options) string {
			return "ws://" + serveTLS(t, ca.ServerConfig(t))
		}, StepUpgrade, "400 Bad Request: this port speaks TLS", "wss://", false},
		{"TLS port, nginx", raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 50\r\n\r\n" + "<center>The plain HTTP request was sent to HTTPS port"), StepUpgrade, "this port speaks TLS", "wss://", false},
		{"TLS port, alert", raw("\x15\x03\x03\x00\x02\x02\x16"), StepUpgrade, "speaks TLS", "wss://", false},
		{"upgrade garbage", raw("SSH-2.0-x\r\n"), StepUpgrade, `not HTTP, it begins with "SSH-2.0`, "not a web server", false},
		{"upgrade EOF", closing(""), StepUpgrade, "closed the connection without an answer", "wss://", false},
		{"upgrade cut", closing("HTTP/1.1 101 Sw"), StepUpgrade, "in the middle of its reply", "log", false},
		{"upgrade bad header", raw("HTTP/1.1 101 S\r\nno colon\r\n\r\n"), StepUpgrade, "header is malformed", "check the address", false},
		{"upgrade silent", func(t *testing.T, d *Options) string {
			d.HandshakeTimeout = 50 * time.Millisecond
			return "ws://" + testnet.Silent(t)
		}, StepUpgrade, "no answer from the server in time", "the server", false},
		{"wrong key", reply101("", false), StepUpgrade, "101|Sec-WebSocket-Accept", "answers in its place", false},
		{"unasked extension", reply101("Sec-WebSocket-Extensions: permessage-deflate\r\n", true), StepUpgrade, "an extension that was not offered", "answers in its place", false},
		{"unasked subprotocol", reply101("Sec-WebSocket-Protocol: binary\r\n", true), StepUpgrade, "a subprotocol that was not offered", "answers in its place", false},
		{"no upgrade header", raw("HTTP/1.1 101 S\r\nConnection: upgrade\r\n\r\n"), StepUpgrade, "Upgrade header", "answers in its place", false},
		{"no connection header", raw("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"), StepUpgrade, "Connection header", "answers in its place", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Options{TLS: ca.ClientConfig(), ProxyTLS: ca.ClientConfig()}
			rawURL := tt.set(t, &d)
			var seen strings.Builder
			var last error
			d.Trace = func(e Event) {
				last = e.Err
				seen.WriteString(e.Addr + e.Detail)
			}
			c, err := Dial(dialCtx(t), rawURL, &d)
			if err == nil {
				c.CloseNow()
				t.Fatal("no error")
			}
			var se *Error
			if !errors.As(err, &se) {
				t.Fatalf("%T: %v", err, err)
			}
			if last != err {
				t.Errorf("the last event has %v", last)
			}
			t.Logf("%v\n%s", err, se.Hint())
			if se.Step != tt.step || se.Permanent != tt.permanent {
				t.Errorf("step %q, permanent %v", se.Step, se.Permanent)
			}
			for part := range strings.SplitSeq(tt.text, "|") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if !strings.Contains(se.Hint(), tt.hint) {
				t.Errorf("hint %q lacks %q", se.Hint(), tt.hint)
			}
			said := err.Error() + se.Hint() + seen.String()
			if strings.Contains(said, secret) || strings.Contains(said, base64.StdEncoding.EncodeToString([]byte("user:"+secret))) {
				t.Errorf("the password shows in %q", said)
			}
			if strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("control characters in %q", err)
			}
		})
	}
}

// serveTLS runs Go's HTTPS server, which answers plain HTTP with 400.
func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	ln := testnet.Listen(t)
	return serveHTTP(t, tls.NewListener(ln, cfg), ln.Addr().String(), http.NotFound)
}

func TestStepErrorCause(t *testing.T) {
	ca := testnet.NewCA(t, "Test CA")
	_, err := Dial(dialCtx(t), "wss://"+wsServer(t, ca.ServerConfig(t), nil), nil)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("the cause is lost in %v", err)
	}
	_, err = Dial(dialCtx(t), "ws://"+testnet.Reply(t, "HTTP/1.1 404 Not Found\r\n\r\n"), nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 404 {
		t.Errorf("the cause is lost in %v", err)
	}
}
