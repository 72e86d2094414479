//go:build unix

package descriptors

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

// At the limit a listener leaves descriptors free, logs one line with the cure, and accepts what
// waits when there are descriptors again.
func TestListenerAtTheLimit(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lowered := before
	lowered.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)

	log := testnet.NewLog()
	shortage := &Shortage{Log: log.Logger}
	ln := shortage.Listener(testnet.Listen(t))
	accepted := make(chan error)
	go func() {
		for {
			conn, err := ln.Accept()
			if err == nil {
				conn.Close()
			}
			accepted <- err
			if err != nil {
				return
			}
		}
	}()
	connect := func() {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	connect()
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	if err := CheckDial(); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	release := func() {
		for _, f := range held {
			f.Close()
		}
		held = nil
	}
	defer release()
	take := func(until func() bool) {
		t.Helper()
		for !until() {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, f)
		}
	}
	take(func() bool { return short(2) })
	if err := CheckDial(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("with twice the reserve: %v", err)
	}
	connect()
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	take(func() bool { return short(1) })
	// A loop that is in Accept already takes one more.
	connect()
	connect()
	connect()
	for n := 0; ; n++ {
		select {
		case <-accepted:
			if n > 0 {
				t.Error("accepted with the reserve only")
			}
			continue
		case <-time.After(4 * pause):
		}
		break
	}
	if n := len(log.Lines("file descriptors short", "limit=128", "ulimit -n", "LimitNOFILE")); n != 1 {
		t.Errorf("%d lines", n)
	}
	f, err := os.Open(os.DevNull) // as a credentials file
	if err != nil {
		t.Error(err)
	}
	f.Close()
	release()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	ln.Close()
	var last error
	for last == nil {
		last = <-accepted
	}
	if !errors.Is(last, net.ErrClosed) {
		t.Error(last)
	}
}
