package mux

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http/httptest"
	"testing"

	"adit/internal/testnet"
	"adit/tunnel"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// newSecureConns is newConns over TLS, as the link has it.
func newSecureConns(t testing.TB) (client, server *ws.Conn) {
	t.Helper()
	ca := testnet.NewCA(t, "link")
	serve := func(web *httptest.Server) {
		web.Listener = tls.NewListener(tunnel.FastListener(web.Listener), ca.ServerConfig(t, "127.0.0.1"))
	}
	return newConnsOn(t, serve, &dial.Options{TLS: ca.ClientConfig()}, func(addr string) string { return "wss://" + addr })
}

// The part of a frame that has arrived is delivered although the rest is late.
func TestPartOfFrame(t *testing.T) {
	for name, conns := range map[string]func(testing.TB) (client, server *ws.Conn){"TLS": newSecureConns, "plain": newConns} {
		t.Run(name, func(t *testing.T) {
			cc, sc := conns(t)
			client, server := newPairOn(t, cc, sc, nil, nil)
			near, far := openPair(t, client, server)
			defer near.Close()
			defer far.Close()
			want := randomBytes(1, 40<<10) // several records
			b := tunnel.NewBuffer()
			copy(b.Bytes[tunnel.BufferHeadroom:], want)
			from, to := frameIn(b, len(want))
			frame := b.Bytes[from:to]
			putYamuxData(frame, near.yamux.StreamID(), len(frame)-yamuxHeader)
			c := near.core.adapter
			rest := want
			for _, part := range [][]byte{frame[:streamHeadroom+100], frame[streamHeadroom+100 : 30<<10], frame[30<<10:]} {
				if err := c.link.Write(part, nil); err != nil {
					t.Fatal(err)
				}
				n := len(part)
				if &part[0] == &frame[0] {
					n -= streamHeadroom
				}
				got := make([]byte, n)
				read := async(func() error { _, err := io.ReadFull(far, got); return err })
				if err := await(t, "part of a frame", read); err != nil || !bytes.Equal(got, rest[:n]) {
					t.Fatalf("%d bytes do not arrive: %v", n, err)
				}
				rest = rest[n:]
			}
		})
	}
}
