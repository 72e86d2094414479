//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// A wstunnelStep is an action of a client on a connection of its own.
type wstunnelStep struct {
	does   string
	path   string   // "" means /echo
	header []string // additional header lines
	// request replaces parts of the request: pairs of old and new.
	request []string
	send    string // sent after the answer
	enough  int    // bytes of payload, or pongs, that end the step; 0: the server ends it
	backend bool   // the result is what arrived at the backend
	// protocol makes the answer's subprotocol part of the result.
	protocol bool
	same     string // the result of both; "" if the document lists the difference
}

// run returns what the client sees: the status if the answer is no WebSocket, and else the frames
// and how the connection ends.
func (s wstunnelStep) run(addr string, arrived chan string) string {
	for len(arrived) > 0 {
		<-arrived
	}
	conn, err := net.DialTimeout("tcp", addr, watchdog)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(watchdog))
	path := s.path
	if path == "" {
		path = "/echo"
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + exampleKey + "\r\n"
	request = strings.NewReplacer(s.request...).Replace(request)
	for _, line := range s.header {
		request += line + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err.Error()
	}
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return "no answer: " + err.Error()
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body.Close()
		outcome := strconv.Itoa(answer.StatusCode)
		if v := answer.Header.Get("Sec-WebSocket-Version"); v != "" {
			outcome += ", version " + v
		}
		return outcome
	}
	var seen []string
	if p := answer.Header.Get("Sec-WebSocket-Protocol"); p != "" && (s.protocol || strings.Contains(request, "Protocol: ")) {
		seen = append(seen, "protocol "+p)
	}
	if answer.Header.Get("Sec-WebSocket-Extensions") != "" {
		seen = append(seen, "an extension")
	}
	if _, err := io.WriteString(conn, s.send); err != nil {
		return err.Error()
	}
	if s.send == "" && s.enough == 0 && path != "/bye" {
		return strings.Join(append([]string{"open"}, seen...), ", ")
	}
	seen = append(seen, watch(in, s.enough)...)
	if s.backend {
		select {
		case what := <-arrived:
			return fmt.Sprintf("the backend gets %q", what)
		case <-time.After(watchdog):
			return "the backend sees no end"
		}
	}
	return strings.Join(seen, ", ")
}

// watch reads frames of any kind and describes them.
func watch(in *bufio.Reader, enough int) (seen []string) {
	data, kind, pongs := "", "", 0
	tell := func(end ...string) []string {
		if data != "" {
			seen = append(seen, fmt.Sprintf("%s %s", kind, shortened(data)))
		}
		if pongs > 0 {
			seen = append(seen, "pong")
		}
		return append(seen, end...)
	}
	for {
		if enough > 0 && len(data)+pongs >= enough {
			return tell()
		}
		op, payload, err := anyFrame(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return tell("silence")
		case err != nil:
			return tell("TCP ends without Close")
		case op == opText:
			kind = "text"
		case op == opBinary:
			kind = "binary"
		}
		switch {
		case op < opClose:
			data += payload
		case op == opPong:
			pongs++
		case op == opClose && payload == "":
			return tell("closed without code")
		case op == opClose && len(payload) == 2:
			return tell("closed " + strconv.Itoa(int(binary.BigEndian.Uint16([]byte(payload)))))
		case op == opClose && len(payload) > 2:
			if code := int(binary.BigEndian.Uint16([]byte(payload))); closeCodeAllowed(code) {
				return tell("closed " + strconv.Itoa(code))
			}
			return tell(fmt.Sprintf("closed with the bytes %q", payload))
		}
	}
}

func shortened(s string) string {
	if len(s) > 20 {
		return strconv.Itoa(len(s)) + " bytes"
	}
	return strconv.Quote(s)
}

// anyFrame reads a frame of a server without validating it.
func anyFrame(in *bufio.Reader) (op byte, payload string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, "", err
	}
	length := uint64(head[1] & 0x7f)
	if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
		ext := make([]byte, 8)
		if _, err := io.ReadFull(in, ext[8-n:]); err != nil {
			return 0, "", err
		}
		length = binary.BigEndian.Uint64(ext)
	}
	if length > 1<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes", length)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(in, b)
	return head[0] & 0x0f, string(b), err
}

var wstunnelScript = []wstunnelStep{
	// The handshake.
	{does: "opens the route's path", same: "open"},
	{does: "opens a path below it", path: "/echo/below", same: "open"},
	{does: "opens `/echoes` where the route is `/echo`", path: "/echoes"},
	{does: "asks for a page at the route's path", request: []string{"Upgrade: websocket\r\n", "", "Connection: Upgrade\r\n", ""}, same: "404"},
	{does: "opens with `Connection: keep-alive, Upgrade`", request: []string{"Connection: Upgrade", "Connection: keep-alive, Upgrade"}, same: "open"},
	{does: "opens with version 8", request: []string{"Version: 13", "Version: 8"}},
	{does: "opens without a key", request: []string{"Sec-WebSocket-Key: " + exampleKey + "\r\n", ""}, same: "400"},
	{does: "opens a route whose backend refuses", path: "/dead"},
	{does: "offers no subprotocol", protocol: true},
	{does: "offers the subprotocol `chat`", header: []string{"Sec-WebSocket-Protocol: chat"}},
	{does: "offers the subprotocol `binary`", path: "/plain", header: []string{"Sec-WebSocket-Protocol: chat, binary"}, send: f(fin|opBinary, "abc"), enough: 3, same: `protocol binary, binary "abc"`},
	{does: "offers `base64`; the backend sends `hi`", path: "/greet", header: []string{"Sec-WebSocket-Protocol: base64"}, enough: 2},
	{does: "offers `permessage-deflate`", header: []string{"Sec-WebSocket-Extensions: permessage-deflate"}, same: "open"},
	{does: "comes from a listed page", path: "/listed", header: []string{"Origin: " + listedOrigin}, same: "open"},
	{does: "comes from a page that is not listed", path: "/listed", header: []string{"Origin: https://evil.test"}, same: "403"},
	{does: "sends no Origin to a route with a list", path: "/listed"},
	{does: "comes from `xhttps://app.example.com`, the list has it without x", path: "/listed", header: []string{"Origin: x" + listedOrigin}, same: "403"},
	{does: "comes from a listed page, in capital letters", path: "/listed", header: []string{"Origin: " + strings.ToUpper(listedOrigin)}},
	{does: "comes from another site's page, and there is no list", header: []string{"Origin: https://evil.test"}},
	{does: "comes from a page of the same host, and there is no list", header: []string{"Origin: https://gw.test"}, same: "open"},

	// The data.
	{does: "sends a message, and no frame type is configured", path: "/plain", send: f(fin|opText, "abc"), enough: 3},
	{does: "sends text, the frame type is binary", send: f(fin|opText, "abc"), enough: 3, same: `binary "abc"`},
	{does: "sends two fragments with a ping between", send: f(opBinary, "ab") + f(fin|opPing, "p") + f(fin|opCont, "c"), enough: 4, same: `binary "abc", pong`},
	{does: "sends a message of 2047 bytes", send: f(fin|opBinary, strings.Repeat("x", 2047)), enough: 2047, same: "binary 2047 bytes"},
	{does: "sends a message of 2048 bytes", send: f(fin|opBinary, strings.Repeat("x", 2048)), enough: 2048, same: "binary 2048 bytes"},
	{does: "sends a message of 70000 bytes", send: f(fin|opBinary, strings.Repeat("x", 70000)), enough: 70000, same: "binary 70000 bytes"},
	{does: "pings with 125 bytes", send: f(fin|opPing, strings.Repeat("p", 125)), enough: 1, same: "pong"},
	{does: "pings with 126 bytes", send: f(fin|opPing, strings.Repeat("p", 126)), enough: 1},
	{does: "sends a fragmented ping", send: f(opPing, "p"), enough: 1},
	{does: "sends text that is not UTF-8", send: f(fin|opText, "\xffab"), enough: 3},
	{does: "sets a reserved bit", send: f(fin|rsv1|opBinary, "abc"), enough: 3},
	{does: "sends opcode 3", send: f(fin|3, "abc"), enough: 3},
	{does: "sends a continuation of nothing", send: f(fin|opCont, "abc"), enough: 3},
	{does: "begins a message inside a message", send: f(opBinary, "") + f(fin|opBinary, "def"), enough: 3},
	{does: "sends an unmasked frame", send: unmasked(fin|opBinary, "abc"), enough: 3},

	// The end.
	{does: "waits; the backend sends `bye` and ends", path: "/bye"},
	{does: "sends a byte; the backend resets", path: "/reset", send: f(fin|opBinary, "x")},
	{does: "closes with 1000", send: closing(1000, "")},
	{does: "closes with 3001", send: closing(3001, "bye")},
	{does: "closes without a code", send: f(fin|opClose, "")},
	{does: "closes with 1005, which must not be sent", send: closing(1005, "")},
	{does: "closes with a payload of one byte", send: f(fin|opClose, "x")},
	{does: "sends data and Close in one segment", path: "/sink", send: f(fin|opBinary, "last data") + closing(1000, ""), backend: true},
}
