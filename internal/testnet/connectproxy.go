package testnet

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// ProxyOptions configure a Proxy. The zero value requires no authentication and
// allows every target.
type ProxyOptions struct {
	// User and Password, if User is not empty, are required by Basic
	// authentication.
	User, Password string
	// TLS, if not nil, makes it an https proxy.
	TLS *tls.Config
	// Hosts maps the HOST:PORT of a CONNECT to the address to dial.
	Hosts map[string]string
	// Allow, if not nil, decides on a CONNECT's HOST:PORT; false means 403.
	Allow func(target string) bool
	// Behind is sent in the same write as the 200, before the backend's bytes.
	Behind []byte
	// Raw, if not nil, replaces every reply. The connection then stays open,
	// or closes at once if CloseAfterRaw is set.
	Raw           []byte
	CloseAfterRaw bool
	// Chop, if positive, splits a reply into writes of this many bytes.
	Chop int
	// Interim precedes the reply, for example a 1xx response.
	Interim string
	// Hang makes the proxy never reply.
	Hang bool
}

// Proxy is an HTTP proxy that supports CONNECT.
type Proxy struct {
	*server
	o ProxyOptions

	mu       sync.Mutex
	requests []*http.Request // guarded by mu
}

// NewProxy starts an HTTP proxy.
func NewProxy(t testing.TB, o ProxyOptions) *Proxy {
	t.Helper()
	p := &Proxy{o: o}
	ln := Listen(t)
	if o.TLS != nil {
		ln = tls.NewListener(ln, o.TLS)
	}
	p.server = newServer(t, ln)
	p.start(p.serve)
	return p
}

// Addr returns the proxy's HOST:PORT.
func (p *Proxy) Addr() string { return p.addr }

// URL returns the proxy's address with its user and password.
func (p *Proxy) URL() *url.URL {
	u := &url.URL{Scheme: "http", Host: p.addr}
	if p.o.TLS != nil {
		u.Scheme = "https"
	}
	if p.o.User != "" {
		u.User = url.UserPassword(p.o.User, p.o.Password)
	}
	return u
}

// Requests returns the requests received so far.
func (p *Proxy) Requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.requests...)
}

func (p *Proxy) serve(c net.Conn) {
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	switch {
	case p.o.Hang:
		drain(c)
		return
	case p.o.Raw != nil:
		p.send(c, p.o.Raw)
		if !p.o.CloseAfterRaw {
			drain(c)
		}
		return
	}
	refuse := func(status int, header string) {
		p.send(c, fmt.Appendf(nil, "%sHTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n", p.o.Interim, status, http.StatusText(status), header))
		drain(c)
	}
	if p.o.User != "" {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.o.User+":"+p.o.Password))
		if req.Header.Get("Proxy-Authorization") != want {
			refuse(http.StatusProxyAuthRequired, "Proxy-Authenticate: Basic realm=\"testnet\"\r\n")
			return
		}
	}
	if req.Method != http.MethodConnect {
		refuse(http.StatusMethodNotAllowed, "")
		return
	}
	if p.o.Allow != nil && !p.o.Allow(req.Host) {
		refuse(http.StatusForbidden, "X-Squid-Error: ERR_ACCESS_DENIED 0\r\n")
		return
	}
	to := req.Host
	if a, ok := p.o.Hosts[to]; ok {
		to = a
	}
	back, err := p.dial(to)
	if err != nil {
		refuse(http.StatusBadGateway, "")
		return
	}
	defer p.release(back)
	p.send(c, append([]byte(p.o.Interim+"HTTP/1.1 200 Connection established\r\n\r\n"), p.o.Behind...))
	relay(&readAhead{c, br}, back)
}

// send writes a reply in one write, or as Chop says.
func (p *Proxy) send(c net.Conn, b []byte) {
	n := p.o.Chop
	if n <= 0 {
		n = len(b)
	}
	for len(b) > 0 {
		n = min(n, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// readAhead is a connection with some bytes already in a buffered reader.
type readAhead struct {
	net.Conn
	br *bufio.Reader
}

func (r *readAhead) Read(p []byte) (int, error) { return r.br.Read(p) }
func (r *readAhead) CloseWrite() error {
	closeWrite(r.Conn)
	return nil
}
