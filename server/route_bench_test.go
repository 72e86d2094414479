package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// BenchmarkRoute measures one stream through a route. The client and the backend
// run in the same process and use its processors, too.
func BenchmarkRoute(b *testing.B) {
	ca := testnet.NewCA(b, "bench")
	for _, secure := range []bool{false, true} {
		for _, size := range []int{100, 64 << 10} {
			for _, up := range []bool{true, false} {
				direction := map[bool]string{true: "up", false: "down"}[up]
				b.Run(fmt.Sprintf("tls=%v/%s/%d", secure, direction, size), func(b *testing.B) {
					benchmarkRoute(b, ca, secure, up, size)
				})
			}
		}
	}
}

func benchmarkRoute(b *testing.B, ca *testnet.CA, secure, up bool, size int) {
	total := int64(size) * int64(b.N)
	received := make(chan error, 1)
	backend := testnet.Serve(b, func(c net.Conn) {
		if up {
			_, err := io.CopyN(io.Discard, c, total)
			received <- err
			return
		}
		p := make([]byte, 64<<10)
		for left := total; left > 0; {
			n, err := c.Write(p[:min(left, int64(len(p)))])
			if err != nil {
				return
			}
			left -= int64(n)
		}
	})
	s, err := New(Config{}, Access{Routes: []Route{{Path: "/r", Backends: []string{backend}}}})
	if err != nil {
		b.Fatal(err)
	}
	var config *tls.Config
	scheme := "ws"
	if secure {
		scheme, config = "wss", ca.ServerConfig(b)
	}
	ln := testnet.Listen(b)
	go s.Serve(ln, config)
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	}()
	d := &dial.Options{TLS: ca.ClientConfig(), Header: http.Header{}}
	conn, err := dial.Dial(b.Context(), scheme+"://"+ln.Addr().String()+"/r", d)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.CloseNow()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	if up {
		buf := make([]byte, conn.Headroom()+size)
		for range b.N {
			if err := conn.WriteBuffer(ws.OpBinary, buf); err != nil {
				b.Fatal(err)
			}
		}
		if err := <-received; err != nil {
			b.Fatal(err)
		}
	} else {
		p := make([]byte, 64<<10)
		for left := total; left > 0; {
			n, err := conn.ReadStream(p)
			if err != nil {
				b.Fatal(err)
			}
			left -= int64(n)
		}
	}
	b.StopTimer()
}
