package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// localPair gives the ends of a connection to ln, which it closes.
func localPair(t testing.TB, ln net.Listener) (dialled, accepted net.Conn) {
	t.Helper()
	ln = LocalListener(ln)
	defer ln.Close()
	x, err := DialLocal(t.Context(), new(net.Dialer), ln.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	y, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.Close() })
	return x, y
}

func TestLocalConn(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			ln, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			x, y := localPair(t, ln)
			if a, b := x.LocalAddr(), y.RemoteAddr(); a.Network() != "tcp" || a.String() != b.String() {
				t.Errorf("the same end is %s and %s", a, b)
			}
			if a, b := x.RemoteAddr().String(), y.LocalAddr().String(); a != b || a != ln.Addr().String() {
				t.Errorf("the same end is %s, %s and %s", a, b, ln.Addr())
			}
			for _, ends := range [][2]net.Conn{{x, y}, {y, x}} {
				from, to := ends[0], ends[1].(streamConn)
				sent := relayBytes(1, 3<<20)
				go func() {
					from.Write(sent)
					from.(streamConn).CloseWrite()
				}()
				if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
				}
			}
		})
	}
}

// Errors are those of package net.
func TestLocalConnErrors(t *testing.T) {
	x, y := localPair(t, testnet.Listen(t))
	b := make([]byte, 1)
	x.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := soonRead(t, x, b)
	var failed *net.OpError
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &failed) || !failed.Timeout() || failed.Op != "read" {
		t.Errorf("after the deadline: %v", err)
	}
	x.SetReadDeadline(time.Time{})
	vanish(y)
	if _, err := soonRead(t, x, b); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	x.Close()
	_, written := x.Write(b)
	_, read := x.Read(b)
	for what, err := range map[string]error{
		"Read": read, "Write": written, "CloseWrite": x.(streamConn).CloseWrite(), "Close": x.Close(), "SetDeadline": x.SetDeadline(time.Time{}),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s of a closed connection: %v", what, err)
		}
	}
	if a := x.LocalAddr(); a == nil || a.Network() != "tcp" {
		t.Errorf("address of a closed connection: %v", a)
	}
}

func soonRead(t *testing.T, c net.Conn, p []byte) (n int, err error) {
	t.Helper()
	err = soon(t, "Read", func() error {
		n, err = c.Read(p)
		return err
	})
	return n, err
}

// A relay's connections are closed some time after it, and the peer does not
// wait for that.
func TestLocalConnRetires(t *testing.T) {
	s, peer := socketPair(t, local)
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	peer.CloseWrite()
	if _, err := soonRead(t, peer, make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if _, err := soonRead(t, s, make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for s.SetDeadline(time.Time{}) == nil {
		time.Sleep(time.Millisecond)
	}
}

func TestLocalListenerCloses(t *testing.T) {
	ln := LocalListener(testnet.Listen(t))
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := soon(t, "Accept", func() error { return <-accepted }); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("something listens still")
	}
}

// What may have visitors from elsewhere stays what it is.
func TestLocalListenerElsewhere(t *testing.T) {
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	path, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	for _, ln := range []net.Listener{everywhere, path} {
		if LocalListener(ln) != ln {
			t.Errorf("%s is taken for local", ln.Addr())
		}
	}
}

func TestDialLocalRefused(t *testing.T) {
	ln := testnet.Listen(t)
	to := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	_, err := DialLocal(t.Context(), new(net.Dialer), to)
	var failed *net.OpError
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &failed) || failed.Op != "dial" || failed.Addr.String() != to.String() {
		t.Error(err)
	}
}

// The dialer's control function is asked before anything is sent.
func TestDialLocalControl(t *testing.T) {
	ln := testnet.Listen(t)
	refusal := errors.New("no")
	var network, address string
	d := net.Dialer{ControlContext: func(_ context.Context, n, a string, raw syscall.RawConn) error {
		network, address = n, a
		return errors.Join(refusal, raw.Control(func(uintptr) {}))
	}}
	to := ln.Addr().(*net.TCPAddr).AddrPort()
	mapped := netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	if _, err := DialLocal(t.Context(), &d, mapped); !errors.Is(err, refusal) {
		t.Error(err)
	}
	if network != "tcp4" || address != to.String() {
		t.Errorf("asked for %s %s", network, address)
	}
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := ln.Accept(); err == nil {
		c.Close()
		t.Error("it has connected all the same")
	}
}
