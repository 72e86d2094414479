//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// routeServers are two adit servers with the same routes, one with TLS and one without.
type routeServers struct {
	plain, secure *server
	roots         *x509.CertPool
	atRest        map[*server]int // descriptors before the first connection
}

// startRoutes starts both with the given [[route]] tables.
func startRoutes(t *testing.T, tables string) *routeServers {
	t.Helper()
	h := machine(t)
	pair := newKeyPair(t, "localhost", "127.0.0.1")
	pem, err := os.ReadFile(pair.ca)
	if err != nil {
		t.Fatal(err)
	}
	r := &routeServers{roots: x509.NewCertPool(), atRest: make(map[*server]int)}
	r.roots.AppendCertsFromPEM(pem)
	start := func(tls string) *server {
		conf := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\ndrain-timeout = \"1s\"\n[tls]\n%s\n%s", tls, tables)
		return h.server(t, "--config", writeFile(t, workDir(t), "server.toml", conf))
	}
	r.plain = start("off = true")
	r.secure = start(fmt.Sprintf("cert = %q\nkey = %q", pair.cert, pair.key))
	for _, s := range []*server{r.plain, r.secure} {
		r.atRest[s] = s.usage(t).descriptors
	}
	return r
}

// settle waits until the servers have closed all other descriptors.
func (r *routeServers) settle(t *testing.T) {
	t.Helper()
	for s, rest := range r.atRest {
		eventually(t, patience, "the server has closed its descriptors", func() error {
			if n := s.usage(t).descriptors; n > rest {
				return fmt.Errorf("%d descriptors, at first %d", n, rest)
			}
			return nil
		})
	}
}

// route returns a [[route]] table. backends are separated by commas.
func route(path, backends string, more ...string) string {
	return fmt.Sprintf("[[route]]\npath = %q\nbackend = [\"%s\"]\n%s\n", path, strings.ReplaceAll(backends, ",", `", "`), strings.Join(more, "\n"))
}

// A transport is a protocol under the WebSocket frames.
type transport string

const (
	overTCP   transport = "ws"
	overTLS   transport = "wss"
	overHTTP2 transport = "h2"
)

var transports = []transport{overTCP, overTLS, overHTTP2}

// watchdog bounds one connection of the suite; a case that passes takes a small fraction of it.
const watchdog = 30 * time.Second

// connTo opens a connection for a transport so that a request can be sent. It returns a tcpWire for
// TCP and TLS, and an h2Conn for HTTP/2.
func (r *routeServers) connTo(by transport) (*tcpWire, *h2Conn, error) {
	addr := r.secure.addr
	if by == overTCP {
		addr = r.plain.addr
	}
	conn, err := net.DialTimeout("tcp", addr, watchdog)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(watchdog))
	raw := conn.(*net.TCPConn)
	if by == overTCP {
		return &tcpWire{conn, bufio.NewReader(conn), raw}, nil, nil
	}
	alpn := "http/1.1"
	if by == overHTTP2 {
		alpn = "h2"
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: r.roots, ServerName: "localhost", NextProtos: []string{alpn}})
	err = secure.Handshake()
	if got := secure.ConnectionState().NegotiatedProtocol; err == nil && got != alpn {
		err = fmt.Errorf("asked for ALPN %s, got %q", alpn, got)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	if by == overTLS {
		return &tcpWire{secure, bufio.NewReader(secure), raw}, nil, nil
	}
	c, err := newH2Conn(secure)
	if err == nil && !c.extended {
		err = errors.New("the server does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL")
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, nil, err
	}
	return nil, c, nil
}

// refusedError reports that the answer to the handshake was not a WebSocket.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the handshake is answered with %d", e.status)
}

// The example of RFC 6455 section 1.3.
const (
	exampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	exampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// dial opens a WebSocket. The frames in early follow the request without waiting for the answer.
func (r *routeServers) dial(by transport, path string, text bool, early string) (*peer, error) {
	conn, h2, err := r.connTo(by)
	if err != nil {
		return nil, err
	}
	if by == overHTTP2 {
		s, err := h2.open(connect("localhost", path), early)
		var status int
		if err == nil {
			status, err = s.answer()
		}
		if err == nil && status != 200 {
			err = &refusedError{status}
		}
		if err != nil {
			h2.Close()
			return nil, err
		}
		return newPeer(s, text), nil
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + exampleKey + "\r\n\r\n"
	if _, err = io.WriteString(conn, request+early); err == nil {
		err = readSwitch(conn.in)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newPeer(conn, text), nil
}

// readSwitch reads the 101 answer to a request with exampleKey.
func readSwitch(in *bufio.Reader) error {
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("the answer to the handshake: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body.Close()
		return &refusedError{answer.StatusCode}
	}
	if got := answer.Header.Get("Sec-WebSocket-Accept"); got != exampleAccept {
		return fmt.Errorf("Sec-WebSocket-Accept is %q", got)
	}
	return nil
}
