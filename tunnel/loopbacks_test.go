package tunnel

import (
	"errors"
	"net"
	"testing"
)

// dials reports whether a TCP connection to the address is accepted.
func dials(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// needIPv6 skips a test on a machine without ::1.
func needIPv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 loopback: %v", err)
	}
	ln.Close()
}

// An application that resolves localhost may try either address.
func TestListenOnLocalhostHasBothLoopbacks(t *testing.T) {
	needIPv6(t)
	ln, err := Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "::1"} {
		dialed, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer dialed.Close()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.LocalAddr().String() != dialed.RemoteAddr().String() {
			t.Errorf("%s: accepted at %s", host, conn.LocalAddr())
		}
	}
	// The port is taken on both: nobody else gets what is meant for this listener.
	if other, err := Listen("tcp", "localhost:"+port); err == nil {
		other.Close()
		t.Error("two listeners have the port")
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed listener: %v", err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if dials(net.JoinHostPort(host, port)) {
			t.Errorf("%s still accepts", host)
		}
	}
}

// A program that has the port on ::1 alone would get some of the connections.
func TestListenOnLocalhostNeedsBothPorts(t *testing.T) {
	needIPv6(t)
	taken, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if ln, err := Listen("tcp", "localhost:"+port); err == nil {
		ln.Close()
		t.Error("another program has the port on ::1")
	}
	if dials("127.0.0.1:" + port) {
		t.Error("127.0.0.1 still accepts")
	}
}

func TestListenOnIPv4WildcardIsIPv4Only(t *testing.T) {
	needIPv6(t)
	for address, v6 := range map[string]bool{"0.0.0.0:0": false, ":0": true} {
		ln, err := Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		if !dials("127.0.0.1:" + port) {
			t.Errorf("%s does not accept IPv4", address)
		}
		if dials("[::1]:"+port) != v6 {
			t.Errorf("%s accepts IPv6: %v, want %v", address, !v6, v6)
		}
	}
}
