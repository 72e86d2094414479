//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// frp CVE-2026-40910: of two conflicting headers one decided where a request went and the other
// whether it was allowed. A doubled header is refused.
func TestAdvisoryConflictingHeaders(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	good := r.alice.bearer(t)
	for what, text := range map[string]string{
		"a good and a bad token": upgrade(tunnelPath, good, "Authorization: Bearer x"),
		"a bad and a good token": upgrade(tunnelPath, "Authorization: Bearer x", good),
		"a good token twice":     upgrade(tunnelPath, good, good),
		"two hosts":              upgrade(tunnelPath, good, "Host: other.test"),
		"two keys":               upgrade(tunnelPath, good, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
		"two versions":           upgrade(tunnelPath, good, "Sec-WebSocket-Version: 8"),
		"two lengths":            upgrade(tunnelPath, good, "Content-Length: 0", "Content-Length: 5"),
	} {
		if status, answer := ask(t, r.dialTLS(t), text); status != http.StatusBadRequest {
			t.Errorf("%s: want 400, got\n%s", what, answer)
		}
	}
	if status, answer := ask(t, r.dialTLS(t), upgrade(tunnelPath, good)); status != http.StatusSwitchingProtocols {
		t.Fatalf("each once:\n%s", answer)
	}
	r.undisturbed(t, echo)
}

// gorilla CVE-2020-27813 and undici: the length of a frame, or a compressed frame, made the reader
// allocate memory. adit allocates only for data that has arrived, and never negotiates compression.
func TestAdvisoryFrameLengths(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	tunneled := func() *tls.Conn {
		conn := r.dialTLS(t)
		status, answer := ask(t, conn, upgrade(tunnelPath, r.alice.bearer(t), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: chat"))
		if status != http.StatusSwitchingProtocols || strings.Contains(answer, "Extensions") || strings.Contains(answer, "Protocol:") {
			t.Fatalf("the answer to an upgrade that offers compression:\n%s", answer)
		}
		return conn
	}
	const final, compressed, binaryFrame, masked = 0x80, 0x40, 2, 0x80
	length := func(n uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{final | binaryFrame, masked | 127}, n)
	}
	mask := []byte{0, 0, 0, 0}
	for _, c := range []struct {
		what string
		say  []byte
	}{
		{"2^63-1 bytes", append(append(length(1<<63-1), mask...), make([]byte, 10_000)...)},
		{"2^63 bytes", append(length(1<<63), mask...)},
		{"2^64-1 bytes", append(length(1<<64-1), mask...)},
		{"a compressed frame", append([]byte{final | compressed | binaryFrame, masked | 2}, 0, 0, 0, 0, 1, 2)},
		{"an unmasked frame", []byte{final | binaryFrame, 2, 1, 2}},
		{"a ping of 126 bytes", append([]byte{final | 9, masked | 126, 0, 126}, make([]byte, 130)...)},
	} {
		conn := tunneled()
		if _, err := conn.Write(c.say); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		// The server closes the connection because of the fault, or because it receives no hello.
		if b, err := io.ReadAll(conn); errIsTimeout(err) {
			t.Errorf("%s: the connection stays open after %x", c.what, b)
		}
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// frp GHSA-26gq-p25f-99cp, rust-yamux CVE-2026-32314 and CVE-2024-32984: overflowing lengths, an
// oversized first frame, unlimited buffered frames. A user who violates the protocol loses the
// session; the server neither crashes nor grows.
func TestAdvisoryHostileFrames(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	hello := bytesOf("01 01 01 0004 00001000 02 0004 00010000")
	// This window update opens the control stream.
	const first = "00 01 0001 00000001 020c0000"
	frame := func(typ, flags byte, stream, length uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0, typ, 0, flags}, stream)
		return binary.BigEndian.AppendUint32(b, length)
	}
	const data, window, ping, syn = 0, 1, 2, 1
	message := func(yamux ...[]byte) []byte { return append(make([]byte, 9), bytes.Join(yamux, nil)...) }
	before := r.server.usage(t)
	for _, c := range []struct {
		what  string
		send  [][]byte // messages of link data, without their first byte
		times int
		lives bool // the session may stay open
	}{
		{what: "an oversized first frame", send: [][]byte{message(frame(data, syn, 1, 0xffffffff), make([]byte, 4096))}},
		{what: "an oversized frame", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 0xffffffff))}},
		{what: "a frame one above the bound", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 128<<10+5))}},
		{what: "a window that overflows", send: [][]byte{message(bytesOf(first), frame(window, syn, 3, 0xffffffff), frame(window, 0, 3, 0xffffffff), frame(window, 0, 3, 0xffffffff))}, times: 100, lives: true},
		{what: "a stream header of 64 KiB", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 4), []byte{1, 1, 0xff, 0xff})}, lives: true},
		{what: "a stream's frame of 16 MiB", send: [][]byte{message(bytesOf(first), frame(data, syn, 3, 8+uint32(len(echo))), []byte{1, 1, 0, byte(len(echo))}, []byte(echo), bytesOf("00 ffffff"))}, lives: true},
		{what: "pings", send: [][]byte{message(bytesOf(first), bytes.Repeat(frame(ping, syn, 0, 1), 10_000))}},
		{what: "an acknowledgement of what was not sent", send: [][]byte{bytesOf("00 ffffffffffffffff")}},
		{what: "streams without end", send: [][]byte{message(bytesOf(first), manyStreams(20_000))}, lives: true},
		{what: "a hello of 1 MiB", send: nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := dial.Dial(ctx, "wss://"+r.server.addr+tunnelPath, r.dialer(t, r.pair.trust(t), r.alice.bearer(t)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			greeting := hello
			if c.send == nil {
				greeting = make([]byte, 1<<20)
			}
			if err := conn.WriteMessage(ws.OpBinary, greeting); err != nil && c.send != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			// Discard the answers.
			go func() {
				defer close(ended)
				for {
					if _, err := conn.NextMessage(); err != nil {
						return
					}
				}
			}()
			for range max(c.times, 1) {
				for _, m := range c.send {
					m[0] = 2
					if err := conn.WriteMessage(ws.OpBinary, m); err != nil {
						// The server has closed the connection.
						break
					}
				}
			}
			if c.lives {
				expectEcho(t, r.connect(t, echo))
				conn.CloseNow()
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the session is still open")
				conn.CloseNow()
				<-ended
			}
		})
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// bytesOf decodes hexadecimal digits.
func bytesOf(digits string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// manyStreams returns the frames that open n yamux streams and send nothing on them.
func manyStreams(n int) (frames []byte) {
	for i := range uint32(n) {
		frames = append(frames, 0, 1, 0, 1)
		frames = binary.BigEndian.AppendUint32(frames, 3+2*i)
		frames = append(frames, 0, 0, 0, 0)
	}
	return frames
}

// lighttpd CVE-2022-37797 and CVE-2022-41556: bad handshakes crashed the server, and each
// half-closed connection permanently used up a slot.
func TestAdvisoryHalfClosedConnections(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	trust := r.pair.trust(t)
	bad := upgrade(tunnelPath, r.alice.bearer(t))
	for i := range 10_000 {
		conn, err := net.DialTimeout("tcp", r.server.addr, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		// Send a truncated upgrade.
		if i%50 == 0 {
			secure := tls.Client(conn, trust)
			if err := secure.Handshake(); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			io.WriteString(secure, bad[:len(bad)*(i/50)/200])
		}
		conn.(*net.TCPConn).CloseWrite()
		if i%2 == 0 {
			// Read until the server closes.
			io.Copy(io.Discard, conn)
		}
		conn.Close()
	}
	r.server.settles(t, before)
	r.undisturbed(t, echo)
}

// Consul CVE-2020-7219: unlimited connections without credentials. The server bounds the number of
// ten thousand of them. TestUnauthenticatedSilence and TestUnauthenticatedFlood cover the time that
// each may last.
func TestAdvisoryUnauthenticatedConnections(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	r := setup{targets: []string{echo}}.start(t)
	before := r.server.usage(t)
	conn := r.connect(t, echo)
	flood(t, r, 10_000, 50)
	if now := r.server.usage(t); now.descriptors > before.descriptors+4096+16 {
		t.Errorf("the server holds %v, before %v", now, before)
	}
	expectEcho(t, conn)
	r.undisturbed(t, echo)
}
