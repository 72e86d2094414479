package mux

import (
	"io"
	"testing"

	"adit/tunnel"
)

// BenchmarkBulk sends through a whole session, relays included: TCP, stream,
// link, stream, TCP.
func BenchmarkBulk(b *testing.B) {
	client, server := newPair(b, nil)
	near, far := openPair(b, client, server)
	app, appSide := tcpPair(b)
	backendSide, backend := tcpPair(b)
	done := make(chan struct{}, 2)
	go func() { tunnel.Relay(tunnel.NewSocket(appSide), near); done <- struct{}{} }()
	go func() { tunnel.Relay(tunnel.NewSocket(backendSide), far); done <- struct{}{} }()
	const size = 1 << 20
	b.SetBytes(size)
	b.ReportAllocs()
	go func() {
		p := make([]byte, size)
		for range b.N {
			app.Write(p)
		}
		app.CloseWrite()
	}()
	b.ResetTimer()
	if n, err := io.Copy(io.Discard, backend); err != nil || n != int64(b.N)*size {
		b.Fatalf("%d bytes of %d arrived: %v", n, int64(b.N)*size, err)
	}
	b.StopTimer()
	backend.Close()
	app.Close()
	<-done
	<-done
}
