//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A target is the server that tunnels connect to. The first byte of a connection selects the service.
type target struct {
	addr     string
	listener net.Listener
	echoes   atomic.Int64 // open connections of forEcho
	running  sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	waiting map[uint64]chan net.Conn
	last    uint64
	ended   bool
}

const (
	forEcho = 'e' // every byte is sent back, including this one
	forPair = 'p' // the number of a pair follows in 8 bytes, then data of bench
)

// echoBuffer is the most that a connection of forEcho has in flight.
const echoBuffer = 64

// patience bounds operations that take a moment when nothing is broken.
const patience = 30 * time.Second

func newTarget(h *host) (*target, error) {
	l, err := h.listen()
	if err != nil {
		return nil, fmt.Errorf("listen for the tunnel's target: %w", err)
	}
	t := &target{addr: l.Addr().String(), listener: l, conns: map[net.Conn]bool{}, waiting: map[uint64]chan net.Conn{}}
	t.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if !t.own(conn) {
				return
			}
			t.running.Go(func() { t.serve(conn) })
		}
	})
	return t, nil
}

func (t *target) own(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		conn.Close()
		return false
	}
	t.conns[conn] = true
	return true
}

func (t *target) disown(conn net.Conn) {
	conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
}

func (t *target) serve(conn net.Conn) {
	var what [9]byte
	if _, err := io.ReadFull(conn, what[:1]); err != nil {
		t.disown(conn)
		return
	}
	switch what[0] {
	case forEcho:
		t.echoes.Add(1)
		echo(conn, what[:1])
		t.echoes.Add(-1)
	case forPair:
		if _, err := io.ReadFull(conn, what[1:]); err != nil {
			break
		}
		t.mu.Lock()
		ch := t.waiting[binary.BigEndian.Uint64(what[1:])]
		t.mu.Unlock()
		if ch != nil {
			ch <- conn // buffered; pair.close or target.close closes it
			return
		}
	}
	t.disown(conn)
}

// echo sends back first and then everything that it reads.
func echo(conn net.Conn, first []byte) {
	buf := make([]byte, echoBuffer)
	n, err := copy(buf, first), error(nil)
	for {
		if _, failed := conn.Write(buf[:n]); err != nil || failed != nil {
			return
		}
		n, err = conn.Read(buf)
	}
}

// close closes all connections and waits for the goroutines.
func (t *target) close() {
	t.listener.Close()
	t.mu.Lock()
	t.ended = true
	for c := range t.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// touch opens a connection, has one byte echoed and closes it.
func touch(dial func() (net.Conn, error)) error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return askEcho(conn)
}

// askEcho selects forEcho on a new connection and waits for the first byte to come back.
func askEcho(conn net.Conn) error {
	b := []byte{forEcho}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("write to a new connection: %w", err)
	}
	b[0] = 0
	if _, err := io.ReadFull(conn, b); err != nil {
		return fmt.Errorf("read from a new connection: %w", err)
	}
	if b[0] != forEcho {
		return fmt.Errorf("a new connection answers %q, not what it was sent", b)
	}
	return nil
}
