//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// A pair is both ends of one connection through a tunnel.
type pair struct {
	client net.Conn // dialed by bench in place of an application
	target net.Conn // accepted by the target
}

// pair opens a connection with dial, which must lead to the target.
func (t *target) pair(dial func() (net.Conn, error)) (pair, error) {
	client, err := dial()
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
	if _, err := client.Write(binary.BigEndian.AppendUint64([]byte{forPair}, id)); err != nil {
		client.Close()
		return pair{}, fmt.Errorf("write to a new connection: %w", err)
	}
	select {
	case accepted := <-ch:
		return pair{client, accepted}, nil
	case <-time.After(patience):
		client.Close()
		return pair{}, fmt.Errorf("a connection did not arrive at the target within %v", patience)
	}
}

func (p pair) close() {
	p.client.Close()
	p.target.Close()
}

// setDeadline makes reads and writes fail that take until t.
func (p pair) setDeadline(t time.Time) {
	p.client.SetDeadline(t)
	p.target.SetDeadline(t)
}
