package mux

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"

	"adit/tunnel"
)

// BenchmarkBulk measures a whole session, relays included: TCP, stream, link,
// stream, TCP.
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

func BenchmarkFrameHeader(b *testing.B) {
	var h [frameHeader]byte
	b.ReportAllocs()
	for n := range b.N {
		putFrame(h[:], frameData, n&0xffff+1)
		if _, _, err := parseFrame(h); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdapter passes the frames of 64 KiB of inbound bytes to a stream.
func BenchmarkAdapter(b *testing.B) {
	in := newReceiveBuffer(1<<40, new(atomic.Int64))
	c := &adapter{limit: 1 << 62, buffers: map[uint32]*receiveBuffer{3: in}, updateAfter: 1 << 30}
	p := dataFrame(3, make([]byte, 64<<10))
	out := &streamReader{adapter: c, stream: 3, in: in}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	var r bytes.Reader
	for range b.N {
		r.Reset(p)
		if _, err := c.read(&r, nil); err != io.EOF {
			b.Fatal(err)
		}
		for left := len(p) - yamuxHeader; left > 0; {
			v, err := in.view(left)
			if err != nil {
				b.Fatal(err)
			}
			out.take(len(v))
			left -= len(v)
			out.read = 0
		}
	}
}

// BenchmarkStream sends through two streams' ends, without relays.
func BenchmarkStream(b *testing.B) {
	client, server := newPair(b, nil)
	near, far := openPair(b, client, server)
	buf := make([]byte, near.Headroom()+64<<10)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	go func() {
		for range b.N {
			near.WriteBuffer(buf)
		}
		near.CloseWrite()
	}()
	b.ResetTimer()
	p := make([]byte, 64<<10)
	for {
		if _, err := far.Read(p); err == io.EOF {
			break
		} else if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	near.Close()
	far.Close()
}

// BenchmarkPingPong sends one byte there and back.
func BenchmarkPingPong(b *testing.B) {
	client, server := newPair(b, nil)
	near, far := openPair(b, client, server)
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		tunnelCopy(far, far)
	}()
	p := make([]byte, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		near.Write(p)
		if _, err := near.Read(p); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	near.CloseWrite()
	<-echoed
	near.Close()
	far.Close()
}

// BenchmarkOpen opens a stream, gets its result and closes it.
func BenchmarkOpen(b *testing.B) {
	client, server := newPair(b, nil)
	go func() {
		for {
			far, err := server.Accept()
			if err != nil {
				return
			}
			far.ReadTarget()
			far.Connected()
			far.CloseWrite()
			far.WaitReadable()
			far.Close()
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		near, err := client.Open(b.Context(), anywhere)
		if err != nil {
			b.Fatal(err)
		}
		near.CloseWrite()
		if err := near.WaitReadable(); err != io.EOF {
			b.Fatal(err)
		}
		near.Close()
	}
}
