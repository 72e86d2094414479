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

// A target is the server that every tunnel leads to. The first byte of a connection says what it is
// for.
type target struct {
	addr     string
	listener net.Listener
	echoes   atomic.Int64 // connections of forEcho that are open
	running  sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	waiting map[uint64]chan net.Conn
	last    uint64
	ended   bool
}

const (
	forEcho = 'e' // every byte comes back, this one too
	forPair = 'p' // the number of a pair follows, and then what the two ends like
)

// echoBuffer is all that a connection of forEcho ever has on its way.
const echoBuffer = 64

// patience is how long to wait for what ought to come at once. It only bounds a failure.
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
			ch <- conn // there is room for one; close releases it at the latest
			return
		}
	}
	t.disown(conn)
}

// echo sends back what has come and what comes, until the end.
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

// close ends all connections and waits for what is under way.
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

// A pair is both ends of one connection through a tunnel.
type pair struct{ near, far net.Conn }

// pair opens a connection with dial, which must lead here.
func (t *target) pair(dial func() (net.Conn, error)) (pair, error) {
	near, err := dial()
	if err != nil {
		return pair{}, fmt.Errorf("connect: %w", err)
	}
	ch := make(chan net.Conn, 1)
	t.mu.Lock()
	t.last++
	id := t.last
	t.waiting[id] = ch
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting, id)
	}()
	if _, err := near.Write(binary.BigEndian.AppendUint64([]byte{forPair}, id)); err != nil {
		near.Close()
		return pair{}, fmt.Errorf("write to a new connection: %w", err)
	}
	select {
	case far := <-ch:
		return pair{near, far}, nil
	case <-time.After(patience):
		near.Close()
		return pair{}, fmt.Errorf("a connection did not arrive at the target within %v", patience)
	}
}

func (p pair) close() {
	p.near.Close()
	p.far.Close()
}

// setDeadline makes whatever hangs fail.
func (p pair) setDeadline(t time.Time) {
	p.near.SetDeadline(t)
	p.far.SetDeadline(t)
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

// askEcho makes a new connection one of forEcho and waits for the proof that it works.
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
