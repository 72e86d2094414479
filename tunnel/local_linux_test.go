package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

func TestDialLocalCancelled(t *testing.T) {
	to := netip.MustParseAddrPort(testnet.Blackhole(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := soon(t, "DialLocal", func() error {
		_, err := DialLocal(ctx, new(net.Dialer), to)
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()
	if _, err := DialLocal(ctx, new(net.Dialer), to); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Where nobody listens, a connection can lead to itself.
func TestDialLocalSelf(t *testing.T) {
	ln := testnet.Listen(t)
	to := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	attempts := 0
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if attempts++; attempts > 1 {
			return nil
		}
		return errors.Join(err, raw.Control(func(fd uintptr) {
			err = unix.Bind(int(fd), &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		}))
	}}
	c, err := DialLocal(t.Context(), &d, to)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) || attempts != 2 {
		t.Errorf("%v after %d attempts", err, attempts)
	}
}

// Keystrokes do not wait, on either end.
func TestLocalConnNoDelay(t *testing.T) {
	x, y := localPair(t, testnet.Listen(t))
	for name, c := range map[string]net.Conn{"dialled": x, "accepted": y} {
		raw, err := c.(*localConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var on int
		if cerr := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		if on == 0 {
			t.Errorf("%s: the system may hold back what is written", name)
		}
	}
}
