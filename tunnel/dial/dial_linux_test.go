package dial

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

func TestDialTCPTimeout(t *testing.T) {
	addr := testnet.Blackhole(t)
	var se *Error

	d := Options{ConnectTimeout: 50 * time.Millisecond}
	_, err := Dial(dialCtx(t), "wss://"+addr, &d)
	if !errors.As(err, &se) || se.Step != StepTCP || se.Err.Error() != "no answer in time" || se.Hint() == "" {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d = Options{ConnectTimeout: -1}
	_, err = Dial(ctx, "wss://"+addr, &d)
	if !errors.As(err, &se) || se.Step != StepTCP || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestDialUnreachable(t *testing.T) {
	// The kernel sends nothing for TCP to a multicast address.
	_, err := Dial(dialCtx(t), "wss://224.0.0.1", nil)
	var se *Error
	if !errors.As(err, &se) || se.Step != StepTCP || se.Err.Error() != "the network is unreachable" || se.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

func TestDialSocketOptions(t *testing.T) {
	c, err := Dial(dialCtx(t), "ws://"+wsServer(t, nil, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	raw, err := c.NetConn().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var user, noDelay int
	raw.Control(func(fd uintptr) {
		user, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		noDelay, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
	})
	if user != 45_000 || noDelay == 0 {
		t.Errorf("TCP_USER_TIMEOUT %d ms, TCP_NODELAY %d", user, noDelay)
	}
}
