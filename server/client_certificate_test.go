package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

// A client whose certificate is refused is named in the log, by address and names.
func TestRefusedClientCertificateIsNamed(t *testing.T) {
	g := start(t, Config{CertNames: func(c *x509.Certificate) []string { return c.DNSNames }}, Access{Users: users(t, user("alice"))})
	other := testnet.NewCA(t, "another authority")
	config := g.ca.ClientConfig()
	wrong := other.Issue(t, testnet.Leaf{Client: true, Names: []string{"laptop.example.com"}})
	config.ServerName = "localhost"
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &wrong, nil }
	c, err := tls.Dial("tcp", g.addr, config)
	if err == nil {
		c.SetDeadline(time.Now().Add(watchdog))
		io.Copy(io.Discard, c)
		c.Close()
	}
	g.log.Wait(t, 1, "client certificate refused", "names=laptop.example.com")
	l := g.log.Lines("client certificate refused")[0]
	if !strings.Contains(l, "another authority") || !strings.Contains(l, "addr=127.0.0.1:") || !strings.Contains(l, "hint=") {
		t.Error(l)
	}
	// One that is valid and names nobody is named when it authenticates.
	g.ask(t, upgrade("/tunnel"), g.ca.Issue(t, testnet.Leaf{Client: true, Names: []string{"nobody.example.com"}}))
	g.log.Wait(t, 1, "authentication failed", "nobody.example.com")
}

// A balancer that sends PROXY protocol headers is named in the log.
func TestProxyHeaderIsRecognized(t *testing.T) {
	for _, first := range []string{"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + strings.Repeat("\x01", 12)} {
		for _, withTLS := range []bool{true, false} {
			g := start(t, Config{}, Access{Users: users(t, user("alice"))})
			addr := g.addr
			if !withTLS {
				ln := testnet.Listen(t)
				addr = ln.Addr().String()
				go g.Serve(ln, nil)
			}
			for range 2 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(c, first+request("GET / HTTP/1.1"))
				c.SetDeadline(time.Now().Add(watchdog))
				io.Copy(io.Discard, c)
				c.Close()
			}
			if l := g.log.Lines("PROXY header received"); len(l) != 1 || !strings.Contains(l[0], "hint=") {
				t.Errorf("%q with TLS %v: %q", first[:5], withTLS, l)
			}
		}
	}
}
