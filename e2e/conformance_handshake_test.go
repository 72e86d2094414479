//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// An openingCase is a modified handshake and its expected answer.
type openingCase struct {
	name     string
	old, new string // replaces old in openingRequest by new
	status   int
	protocol string // subprotocol of the answer
}

const openingRequest = "GET /binary HTTP/1.1\r\n" +
	"Host: localhost\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: " + exampleKey + "\r\n" +
	"\r\n"

const (
	upgradeLine    = "Upgrade: websocket\r\n"
	connectionLine = "Connection: Upgrade\r\n"
	versionLine    = "Sec-WebSocket-Version: 13\r\n"
	keyLine        = "Sec-WebSocket-Key: " + exampleKey + "\r\n"
	headEnd        = "\r\n\r\n"
)

// more returns an openingCase with added header lines.
func more(name, lines string, status int, protocol string) openingCase {
	return openingCase{name, headEnd, "\r\n" + lines + headEnd, status, protocol}
}

var openingCases = []openingCase{
	{"the example", "", "", 101, ""},
	{"a query", "/binary", "/binary?a=b&c", 101, ""},
	{"a path below the route", "/binary", "/binary/below/it", 101, ""},
	{"a slash behind the route", "/binary", "/binary/", 101, ""},
	{"the beginning of a segment", "/binary", "/binaries", 404, ""},
	{"the route in other letters", "/binary", "/Binary", 404, ""},
	{"no route", "/binary", "/nothing", 404, ""},
	{"the absolute form", "/binary", "http://localhost/binary", 101, ""},
	{"a Host with a port", "localhost", "localhost:8080", 101, ""},
	{"no Host", "Host: localhost\r\n", "", 400, ""},
	{"two Hosts", "Host: localhost\r\n", "Host: localhost\r\nHost: localhost\r\n", 400, ""},

	{"field names in small letters", upgradeLine + connectionLine, strings.ToLower(upgradeLine + connectionLine), 101, ""},
	{"field names in capitals", "Sec-WebSocket-", "SEC-WEBSOCKET-", 101, ""},
	{"white space around values", versionLine, "Sec-WebSocket-Version: \t 13 \t\r\n", 101, ""},
	{"white space around the key", keyLine, "Sec-WebSocket-Key:" + exampleKey + "  \r\n", 101, ""},
	{"Upgrade in mixed letters", upgradeLine, "Upgrade: WebSocket\r\n", 101, ""},
	{"Upgrade in capitals", upgradeLine, "Upgrade: WEBSOCKET\r\n", 101, ""},
	{"Upgrade in a list", upgradeLine, "Upgrade: h2c, websocket\r\n", 101, ""},
	{"Upgrade first in a list", upgradeLine, "Upgrade: websocket , h2c\r\n", 101, ""},
	{"Upgrade in two lines", upgradeLine, "Upgrade: h2c\r\nUpgrade: websocket\r\n", 101, ""},
	{"Connection in small letters", connectionLine, "Connection: upgrade\r\n", 101, ""},
	{"Connection as Firefox has it", connectionLine, "Connection: keep-alive, Upgrade\r\n", 101, ""},
	{"Connection with Upgrade first", connectionLine, "Connection: Upgrade,keep-alive\r\n", 101, ""},
	{"Connection in two lines", connectionLine, "Connection: keep-alive\r\nConnection: Upgrade\r\n", 101, ""},

	{"no Upgrade", upgradeLine, "", 404, ""},
	{"Upgrade to something else", upgradeLine, "Upgrade: h2c\r\n", 404, ""},
	{"Upgrade to nearly the same", upgradeLine, "Upgrade: websockets\r\n", 404, ""},
	{"no Connection", connectionLine, "", 404, ""},
	{"Connection without upgrade", connectionLine, "Connection: keep-alive\r\n", 404, ""},
	{"Connection with nearly the same", connectionLine, "Connection: Upgrades\r\n", 404, ""},
	{"POST", "GET", "POST", notSwitched, ""},
	{"PUT", "GET", "PUT", notSwitched, ""},
	{"OPTIONS", "GET", "OPTIONS", notSwitched, ""},
	{"DELETE", "GET", "DELETE", notSwitched, ""},
	{"get in small letters", "GET", "get", notSwitched, ""},
	{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", notSwitched, ""},
	{"HTTP/1.2", "HTTP/1.1", "HTTP/1.2", 101, ""},
	{"HTTP/2.0 in the request line", "HTTP/1.1", "HTTP/2.0", notSwitched, ""},
	{"HTTP/3.1 in the request line", "HTTP/1.1", "HTTP/3.1", notSwitched, ""},
	{"a field name with a space", versionLine, "Sec-WebSocket-Version : 13\r\n", 400, ""},
	{"a body", headEnd, "\r\nContent-Length: 5" + headEnd + "hello", 400, ""},
	{"a body in chunks", headEnd, "\r\nTransfer-Encoding: chunked" + headEnd + "0" + headEnd, 400, ""},
	{"an empty body", headEnd, "\r\nContent-Length: 0" + headEnd, 101, ""},
	more("a head of 64 KiB", "Cookie: "+strings.Repeat("x", 64<<10), 431, ""),

	{"no key", keyLine, "", 400, ""},
	{"an empty key", keyLine, "Sec-WebSocket-Key:\r\n", 400, ""},
	{"a key of 15 bytes", exampleKey, "dGhlIHNhbXBsZSBub25j", 400, ""},
	{"a key of 17 bytes", exampleKey, "dGhlIHNhbXBsZSBub25jZSE=", 400, ""},
	{"a key that is not base64", exampleKey, "!!!!IHNhbXBsZSBub25jZQ==", 400, ""},
	{"a key without padding", exampleKey, "dGhlIHNhbXBsZSBub25jZQ", 400, ""},
	{"two keys", keyLine, keyLine + keyLine, 400, ""},
	{"two keys in one line", exampleKey, exampleKey + ", " + exampleKey, 400, ""},

	{"no version", versionLine, "", 426, ""},
	{"an empty version", versionLine, "Sec-WebSocket-Version:\r\n", 426, ""},
	{"version 0", versionLine, "Sec-WebSocket-Version: 0\r\n", 426, ""},
	{"version 8", versionLine, "Sec-WebSocket-Version: 8\r\n", 426, ""},
	{"version 12", versionLine, "Sec-WebSocket-Version: 12\r\n", 426, ""},
	{"version 14", versionLine, "Sec-WebSocket-Version: 14\r\n", 426, ""},
	{"version 013", versionLine, "Sec-WebSocket-Version: 013\r\n", 426, ""},
	{"version 1300", versionLine, "Sec-WebSocket-Version: 1300\r\n", 426, ""},
	{"two versions in one line", versionLine, "Sec-WebSocket-Version: 13, 8\r\n", 426, ""},
	{"version 13 twice", versionLine, versionLine + versionLine, 400, ""},
	{"versions 8 and 13", versionLine, "Sec-WebSocket-Version: 8\r\n" + versionLine, 400, ""},

	more("permessage-deflate", "Sec-WebSocket-Extensions: permessage-deflate", 101, ""),
	more("permessage-deflate as Chromium has it", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", 101, ""),
	more("several extensions", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover, x-webkit-deflate-frame, mux; max-channels=4", 101, ""),
	more("extensions in two lines", "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: foo", 101, ""),
	more("an unknown extension", "Sec-WebSocket-Extensions: x-unknown; a=\"b\"", 101, ""),

	more("a subprotocol", "Sec-WebSocket-Protocol: chat", 101, ""),
	more("several subprotocols", "Sec-WebSocket-Protocol: chat, superchat, mqtt", 101, ""),
	more("the subprotocol binary", "Sec-WebSocket-Protocol: binary", 101, "binary"),
	more("the subprotocol binary among others", "Sec-WebSocket-Protocol: chat, binary", 101, "binary"),
	more("the subprotocol binary in a second line", "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: binary", 101, "binary"),
	more("nearly the subprotocol binary", "Sec-WebSocket-Protocol: Binary, binary2", 101, ""),
	more("binary and base64", "Sec-WebSocket-Protocol: base64, binary", 101, "binary"),
	more("a malformed subprotocol", "Sec-WebSocket-Protocol: a b", 400, ""),
	more("an empty subprotocol", "Sec-WebSocket-Protocol: a,,b", 400, ""),

	more("a page of the same host", "Origin: http://localhost", 101, ""),
	more("a page of another host", "Origin: http://evil.example", 403, ""),
	more("a page of a longer host", "Origin: http://localhost.evil.example", 403, ""),
	more("a page without an origin", "Origin: null", 403, ""),
	more("two Origins", "Origin: http://localhost\r\nOrigin: http://localhost", 400, ""),
	more("an unknown field", "X-Unknown: 1", 101, ""),
}

const (
	notSwitched = -1 // every status from 400 on
	// wrongVersion is 400 with the version that would be right: 426 asks for an Upgrade field, which
	// HTTP/2 does not have.
	wrongVersion = -2
)

// run sends the request and checks the answer. After a 101 it checks that the WebSocket works.
func (c openingCase) run(conn *tcpWire, chop int, early string) error {
	request := strings.Replace(openingRequest, c.old, c.new, 1)
	if !strings.Contains(openingRequest, c.old) {
		return errors.New("the case changes nothing")
	}
	var out io.Writer = conn
	if chop > 0 {
		out = chopper{conn, chop}
	}
	if _, err := io.WriteString(out, request+early); err != nil {
		return err
	}
	answer, err := http.ReadResponse(conn.in, nil)
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	defer answer.Body.Close()
	field := func(name string) string { return strings.Join(answer.Header.Values(name), " | ") }
	if c.status != answer.StatusCode && !(c.status == notSwitched && answer.StatusCode >= 400) {
		return fmt.Errorf("the answer is %s", answer.Status)
	}
	want := map[string]string{"Sec-WebSocket-Accept": "", "Sec-WebSocket-Extensions": "", "Sec-WebSocket-Protocol": c.protocol}
	switch c.status {
	case 101:
		want["Sec-WebSocket-Accept"], want["Upgrade"], want["Connection"] = exampleAccept, "websocket", "Upgrade"
		want["Content-Length"], want["Transfer-Encoding"] = "", ""
	case 426:
		want["Sec-WebSocket-Version"], want["Upgrade"] = "13", "websocket"
	}
	for name, value := range want {
		if field(name) != value {
			return fmt.Errorf("%s is %q in the answer, want %q", name, field(name), value)
		}
	}
	if c.status != 101 {
		return nil
	}
	p := newPeer(conn, false)
	if err := p.until(func() bool { return len(p.data) >= len(earlyData)*len(early)/max(len(early), 1) }); err != nil {
		return fmt.Errorf("frames behind the request: %w", err)
	}
	if err := p.roundTrip("works"); err != nil {
		return err
	}
	return p.bye()
}

// earlyData is what the backend returns for the frames that some requests are sent with.
const earlyData = "early"

var earlyFrames = f(opBinary, "ear") + f(fin|opPing, "") + f(fin|opCont, "ly")

// TestHandshakes runs every handshake over HTTP/1.1, with and without TLS, and those of HTTP/2.
func TestHandshakes(t *testing.T) {
	backend := machine(t).listen(t, "127.0.0.1:0")
	serve(t, backend, func(conn net.Conn) { io.Copy(conn, conn) })
	r := startRoutes(t, route("/binary", backend.Addr().String()))
	for _, by := range []transport{overTCP, overTLS} {
		for _, c := range openingCases {
			play := func(name string, chop int, early string) {
				t.Run(fmt.Sprintf("%s/%s", by, name), func(t *testing.T) {
					conn, _, err := r.connTo(by)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if by == overTLS {
						c.new = strings.ReplaceAll(c.new, "Origin: http://localhost", "Origin: https://localhost")
					}
					if err := c.run(conn, chop, early); err != nil {
						t.Error(err)
					}
				})
			}
			play(c.name, 0, "")
			if c.status == 101 {
				play(c.name+", and frames at once", 0, earlyFrames)
				play(c.name+", and frames at once, byte by byte", 1, earlyFrames)
			}
		}
		t.Run(fmt.Sprintf("%s/much behind the request", by), func(t *testing.T) {
			data := binaryPayload(100_000)
			p, err := r.dial(by, "/binary", false, f(fin|opBinary, data))
			if err != nil {
				t.Fatal(err)
			}
			if err := passes("", "", data).run(p); err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range connectCases {
		t.Run("h2/"+c.name, func(t *testing.T) {
			_, conn, err := r.connTo(overHTTP2)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := c.run(conn, ""); err != nil {
				t.Error(err)
			}
			if c.status != 200 {
				return
			}
			// Repeat on the same connection, with frames that do not wait for the answer.
			if err := c.run(conn, earlyFrames); err != nil {
				t.Error("with frames at once:", err)
			}
		})
	}
	t.Run("h2/many on one connection", func(t *testing.T) { manyWebSockets(t, r) })
}

// A connectCase is a request over HTTP/2 and its expected answer.
type connectCase struct {
	name     string
	header   h2Header
	status   int // or notSwitched, which may also be a reset of the stream, or wrongVersion
	protocol string
}

func without(header h2Header, name string) h2Header {
	var rest h2Header
	for _, field := range header {
		if field[0] != name {
			rest = append(rest, field)
		}
	}
	return rest
}

var connectCases = []connectCase{
	{"an extended CONNECT", connect("localhost", "/binary"), 200, ""},
	{"a query", connect("localhost", "/binary?a=b"), 200, ""},
	{"a path below the route", connect("localhost", "/binary/below"), 200, ""},
	{"a key, which means nothing here", connect("localhost", "/binary", [2]string{"sec-websocket-key", exampleKey}), 200, ""},
	{"no route", connect("localhost", "/nothing"), 404, ""},
	{"no version", without(connect("localhost", "/binary"), "sec-websocket-version"), wrongVersion, ""},
	{"version 8", append(without(connect("localhost", "/binary"), "sec-websocket-version"), [2]string{"sec-websocket-version", "8"}), wrongVersion, ""},
	{"version 13 twice", connect("localhost", "/binary", [2]string{"sec-websocket-version", "13"}), 400, ""},
	{"permessage-deflate", connect("localhost", "/binary", [2]string{"sec-websocket-extensions", "permessage-deflate"}), 200, ""},
	{"a subprotocol", connect("localhost", "/binary", [2]string{"sec-websocket-protocol", "chat"}), 200, ""},
	{"the subprotocol binary", connect("localhost", "/binary", [2]string{"sec-websocket-protocol", "chat, binary"}), 200, "binary"},
	{"a malformed subprotocol", connect("localhost", "/binary", [2]string{"sec-websocket-protocol", "a,,b"}), 400, ""},
	{"a page of the same host", connect("localhost", "/binary", [2]string{"origin", "https://localhost"}), 200, ""},
	{"a page of another host", connect("localhost", "/binary", [2]string{"origin", "https://evil.example"}), 403, ""},
	{"two Origins", connect("localhost", "/binary", [2]string{"origin", "https://localhost"}, [2]string{"origin", "https://localhost"}), 400, ""},
	{"CONNECT to a host", h2Header{{":method", "CONNECT"}, {":authority", "localhost:22"}}, notSwitched, ""},
	{"another protocol", append(h2Header{{":method", "CONNECT"}, {":protocol", "connect-udp"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/binary"}}, [2]string{"sec-websocket-version", "13"}), notSwitched, ""},
	{"CONNECT without a path", without(connect("localhost", "/binary"), ":path"), notSwitched, ""},
	{"GET with a protocol", append(h2Header{{":method", "GET"}}, connect("localhost", "/binary")[1:]...), notSwitched, ""},
	{"GET", h2Header{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/binary"}, {"sec-websocket-version", "13"}}, 404, ""},
	{"GET with an upgrade, which HTTP/2 does not have", h2Header{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/binary"},
		{"upgrade", "websocket"}, {"connection", "upgrade"}, {"sec-websocket-version", "13"}, {"sec-websocket-key", exampleKey}}, notSwitched, ""},
}

func (c connectCase) run(conn *h2Conn, early string) error {
	s, err := conn.open(c.header, early)
	if err != nil {
		return err
	}
	status, err := s.answer()
	if c.status == notSwitched {
		if err == nil && status < 400 {
			return fmt.Errorf("the answer is %d", status)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if status != c.status && !(c.status == wrongVersion && status == 400) {
		return fmt.Errorf("the answer is %d", status)
	}
	field := func(name string) string { return strings.Join(s.fields[name], " | ") }
	want := map[string]string{"sec-websocket-accept": "", "sec-websocket-extensions": "", "sec-websocket-protocol": c.protocol, "upgrade": "", "connection": ""}
	if c.status == wrongVersion {
		want["sec-websocket-version"] = "13"
	}
	for name, value := range want {
		if field(name) != value {
			return fmt.Errorf("%s is %q in the answer, want %q", name, field(name), value)
		}
	}
	if status != 200 {
		return nil
	}
	p := newPeer(s, false)
	if early != "" {
		if err := p.until(func() bool { return string(p.data) == earlyData && len(p.pongs) == 1 }); err != nil {
			return err
		}
	}
	if err := p.roundTrip("works"); err != nil {
		return err
	}
	return p.bye()
}

// manyWebSockets opens 50 WebSockets on one connection: their data is independent, and one whose
// client does not read does not block the others.
func manyWebSockets(t *testing.T, r *routeServers) {
	_, conn, err := r.connTo(overHTTP2)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var peers []*peer
	for range 50 {
		s, err := conn.open(connect("localhost", "/binary"), "")
		if err != nil {
			t.Fatal(err)
		}
		if status, err := s.answer(); err != nil || status != 200 {
			t.Fatalf("the answer is %d, %v", status, err)
		}
		peers = append(peers, &peer{wire: s, in: bufio.NewReader(s)})
	}
	// The first WebSocket gets more data than a stream's window and does not read it.
	unread := make(chan error, 1)
	big := binaryPayload(3 * h2Window)
	go func() { unread <- peers[0].write(f(fin|opBinary, big), 0) }()
	for round := range 3 {
		for i, p := range peers[1:] {
			if err := p.roundTrip(fmt.Sprintf("round %d of %d", round, i)); err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
		}
	}
	p := peers[0]
	if err := p.until(func() bool { return len(p.data) >= len(big) }); err != nil || string(p.data) != big {
		t.Fatalf("%d bytes came back, %v", len(p.data), err)
	}
	if err := <-unread; err != nil {
		t.Error(err)
	}
	peers[1].Reset()
	for i, p := range peers[2:] {
		if err := p.bye(); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	if err := peers[0].bye(); err != nil {
		t.Error(err)
	}
}
