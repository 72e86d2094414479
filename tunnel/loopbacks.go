package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// loopbacks listens on one port of both loopback addresses, 127.0.0.1 and ::1. Its address is the first.
type loopbacks struct {
	net.Listener // 127.0.0.1
	second       net.Listener

	start    sync.Once
	accepted chan accepted
	end      sync.Once
	closed   chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// listenLoopbacks listens on a port of both loopback addresses, or of 127.0.0.1 alone on a machine without IPv6.
// For port 0 it looks for a port that is free on both.
func listenLoopbacks(lc *net.ListenConfig, port string) (net.Listener, error) {
	for tries := 0; ; tries++ {
		first, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:"+port)
		if err != nil {
			return nil, err
		}
		same := strconv.Itoa(first.Addr().(*net.TCPAddr).Port)
		second, err := lc.Listen(context.Background(), "tcp6", "[::1]:"+same)
		switch {
		case err == nil:
			return &loopbacks{Listener: first, second: second, accepted: make(chan accepted), closed: make(chan struct{})}, nil
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EPROTONOSUPPORT):
			return first, nil
		}
		first.Close()
		if port == same || tries == 20 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
}

func (l *loopbacks) Accept() (net.Conn, error) {
	l.start.Do(func() {
		go l.serve(l.Listener)
		go l.serve(l.second)
	})
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, fmt.Errorf("accept on %s: %w", l.Addr(), net.ErrClosed)
	}
}

// serve passes what a listener accepts to Accept.
func (l *loopbacks) serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		select {
		case l.accepted <- accepted{conn, err}:
		case <-l.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

func (l *loopbacks) Close() error {
	err := net.ErrClosed
	l.end.Do(func() {
		close(l.closed)
		err = errors.Join(l.Listener.Close(), l.second.Close())
	})
	return err
}
