package tunnel

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func congestionControl(t *testing.T, c syscall.Conn) string {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if cerr := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return name
}

func TestUnpacedOnLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		near, err := (&net.Dialer{Control: Unpaced}).Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		for _, c := range []net.Conn{near, far} {
			if got := congestionControl(t, c.(*net.TCPConn)); got != "reno" {
				t.Errorf("%s: %s", address, got)
			}
		}
	}
}

func TestPacedElsewhere(t *testing.T) {
	theirs, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if got, want := congestionControl(t, ours.(*net.TCPListener)), congestionControl(t, theirs.(*net.TCPListener)); got != want {
		t.Errorf("%s, the system's is %s", got, want)
	}
}
