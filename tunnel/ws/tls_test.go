package ws

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel"
)

// maxRecord is the maximal payload of a TLS record, in bytes.
const maxRecord = 16 << 10

// A countedConn counts writes.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// tlsConns returns the two ends of a WebSocket over TLS of the given version, and the connection beneath the
// client's TLS.
func tlsConns(t testing.TB, version uint16) (client, server *Conn, below *countedConn) {
	t.Helper()
	x, y := testnet.Pair(t, "tcp")
	ca := testnet.NewCA(t, "records")
	below = &countedConn{Conn: x}
	clientConfig, serverConfig := ca.ClientConfig(), ca.ServerConfig(t, "localhost")
	clientConfig.ServerName, clientConfig.MaxVersion = "localhost", version
	near, far := tls.Client(tunnel.FastConn(below), clientConfig), tls.Server(tunnel.FastConn(y), serverConfig)
	done := make(chan error, 1)
	go func() { done <- far.Handshake() }()
	if err := errors.Join(near.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	client = newConn(near, nil, true, true, Options{})
	server = newConn(far, nil, false, true, Options{})
	t.Cleanup(func() {
		client.CloseNow()
		server.CloseNow()
	})
	return client, server, below
}

// Messages of all sizes arrive whole over TLS.
func TestTLSMessages(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server, _ := tlsConns(t, version)
		p := make([]byte, 1<<20)
		for _, size := range []int{0, 1, maxRecord - 20, maxRecord, maxRecord + 1, 64 << 10, tunnel.BufferSize, tunnel.BufferSize + 100, 1 << 20} {
			sent := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(size)}).Read(sent)
			for range 3 { // at first, crypto/tls writes small records
				failed := make(chan error, 1)
				go func() { failed <- client.WriteBuffer(OpBinary, append(make([]byte, client.Headroom()), sent...)) }()
				if _, err := server.NextMessage(); err != nil {
					t.Fatal(err)
				}
				n, err := io.ReadFull(server, p[:size])
				if err != nil || !bytes.Equal(p[:n], sent) {
					t.Fatalf("%d bytes of %d: %v", n, size, err)
				}
				select {
				case err := <-failed:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(watchdog):
					t.Fatalf("WriteBuffer takes more than %v", watchdog)
				}
			}
		}
	}
}

// Nothing is written after a record that was cut short.
func TestTLSCutShort(t *testing.T) {
	client, _, below := tlsConns(t, tls.VersionTLS13)
	below.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, client.Headroom()+64<<20) // more than the socket's buffers take
	if err := client.WriteBuffer(OpBinary, b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	below.SetWriteDeadline(time.Time{})
	before := below.writes.Load()
	tunnel.CloseWrite(client.nc) // tries to send an alert
	if below.writes.Load() != before {
		t.Error("something was written behind half a record")
	}
}

// A read that ends by a deadline loses no data.
func TestTLSReadDeadline(t *testing.T) {
	client, server, _ := tlsConns(t, tls.VersionTLS13)
	b := make([]byte, client.Headroom()+tunnel.BufferSize)
	p := make([]byte, tunnel.BufferSize)
	for range 20 {
		if err := client.WriteBuffer(OpBinary, b); err != nil {
			t.Fatal(err)
		}
		if _, err := server.NextMessage(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, p); err != nil {
			t.Fatal(err)
		}
		server.nc.SetReadDeadline(time.Unix(1, 0))
		if _, err := server.NextMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		server.nc.SetReadDeadline(time.Time{})
	}
}

// Writing messages over TLS allocates nothing; crypto/tls allocates a reader for each read.
func TestTLSNoAllocations(t *testing.T) {
	client, server, _ := tlsConns(t, tls.VersionTLS13)
	done := sink(server.nc)
	b := make([]byte, client.Headroom()+tunnel.BufferSize)
	if n := testing.AllocsPerRun(300, func() {
		if err := client.WriteBuffer(OpBinary, b); err != nil {
			t.Error(err)
		}
	}); n > 0.5+float64(tunnel.BufferSize/maxRecord) { // the sink's reads
		t.Errorf("%v allocations per message", n)
	}
	client.CloseNow()
	<-done
}

func BenchmarkTLS(b *testing.B) {
	client, server, _ := tlsConns(b, tls.VersionTLS13)
	done := sink(server.nc)
	p := make([]byte, client.Headroom()+tunnel.BufferSize)
	b.SetBytes(tunnel.BufferSize)
	b.ReportAllocs()
	for b.Loop() {
		if err := client.WriteBuffer(OpBinary, p); err != nil {
			b.Fatal(err)
		}
	}
	client.CloseNow()
	<-done
}
