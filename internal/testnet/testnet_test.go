package testnet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func roundTrip(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("got %q, %v", b, err)
	}
}

func TestFaultPassesHalfClose(t *testing.T) {
	f := NewFault(t, Echo(t))
	c := dial(t, f.Addr())
	text := strings.Repeat("x", 1<<20)
	go io.WriteString(c, text)
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	if n, err := c.Read(b); n != 0 || err != io.EOF {
		t.Fatalf("after half-close: %d, %v", n, err)
	}
}

func TestFaultCut(t *testing.T) {
	seen := make(chan error, 1)
	f := NewFault(t, Serve(t, func(c net.Conn) {
		b := make([]byte, 1)
		c.Read(b)
		c.Write(b)
		_, err := c.Read(b)
		seen <- err
	}))
	c := dial(t, f.Addr())
	roundTrip(t, c, "x")
	f.Cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client sees %v", err)
	}
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("server sees %v", err)
	}
}

func TestFaultCutAfter(t *testing.T) {
	f := NewFault(t, Echo(t))
	c := dial(t, f.Addr())
	roundTrip(t, c, "x")
	f.CutAfter(10)
	io.WriteString(c, "0123456789abcdef")
	if n, err := c.Read(make([]byte, 16)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v", n, err)
	}
	roundTrip(t, dial(t, f.Addr()), "again")
}

func TestFaultStall(t *testing.T) {
	f := NewFault(t, Echo(t))
	c := dial(t, f.Addr())
	f.Stall(true)
	io.WriteString(c, "hello")
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 5)); n != 0 || !errors.Is(err, context.DeadlineExceeded) && !err.(net.Error).Timeout() {
		t.Fatalf("through a stalled path: %d, %v", n, err)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	f.Stall(false)
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("after the stall: %q, %v", b, err)
	}
	f.Stall(true) // cleanup must end a stalled connection
	io.WriteString(c, "lost")
}

func TestFaultChop(t *testing.T) {
	f := NewFault(t, Echo(t))
	f.Chop(1)
	roundTrip(t, dial(t, f.Addr()), "hello")
}

func TestFaultDownUp(t *testing.T) {
	f := NewFault(t, Echo(t))
	c := dial(t, f.Addr())
	roundTrip(t, c, "x")
	if f.Total() != 1 {
		t.Errorf("total %d", f.Total())
	}
	f.Down()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("open connection: %v", err)
	}
	if _, err := net.Dial("tcp", f.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("new connection: %v", err)
	}
	f.Up(t)
	roundTrip(t, dial(t, f.Addr()), "back")
}

func TestRefusedAddr(t *testing.T) {
	if _, err := net.Dial("tcp", RefusedAddr(t)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

func TestCA(t *testing.T) {
	ca := NewCA(t, "Test CA")
	ln := tls.NewListener(Listen(t), ca.ServerConfig(t, "gw.example.com"))
	s := newServer(t, ln)
	s.start(drain)
	cfg := ca.ClientConfig()
	cfg.ServerName = "gw.example.com"
	c, err := tls.Dial("tcp", s.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	certFile, keyFile := WriteCert(t, ca.Issue(t, Leaf{CommonName: "alice", Client: true}))
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Error(err)
	}
}

func TestResolver(t *testing.T) {
	r := NewResolver(t, map[string][]netip.Addr{"gw.example.com": {netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("::1")}})
	addrs, err := r.LookupHost(t.Context(), "gw.example.com.")
	if err != nil || len(addrs) != 2 {
		t.Errorf("got %v, %v", addrs, err)
	}
	var de *net.DNSError
	if _, err := r.LookupHost(t.Context(), "none.example.com."); !errors.As(err, &de) || !de.IsNotFound {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := r.LookupHost(t.Context(), "broken.example.com."); !errors.As(err, &de) || de.IsNotFound {
		t.Errorf("failing server: %v", err)
	}
}
