//go:build linux

package main

import (
	"io"
	"net"
	"testing"
	"time"
)

// A bottleneck delivers data at its rate, after its delay, and drops what its queue does not hold.
func TestBottleneck(t *testing.T) {
	b := newBottleneck(path{rate: 8e6, rtt: 20 * time.Millisecond, depth: 50 * time.Millisecond}) // 1 byte a µs
	before := time.Now()
	var passed int
	for {
		due, ok := b.arrive(1000)
		if !ok {
			break
		}
		passed++
		if least := before.Add(time.Duration(passed)*time.Millisecond + 10*time.Millisecond); due.Before(least) {
			t.Fatalf("packet %d is due %v too early", passed, least.Sub(due))
		}
		if passed > 1e6 {
			t.Fatal("the queue has no end")
		}
	}
	if passed < 51 {
		t.Errorf("the queue holds %d packets, want 51", passed)
	}
	if b.backlog() <= 0 {
		t.Error("nothing is queued")
	}
	if idle := newBottleneck(path{}).backlog(); idle != 0 {
		t.Errorf("nothing was sent, and the queue takes %v to drain", idle)
	}
}

// A relay passes on a half-close in either direction and keeps the other direction open.
func TestRelayHalfClose(t *testing.T) {
	h := machine()
	defer h.close()
	ln, err := h.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := newRelay(h, path{rate: 1e9, depth: time.Second, relay: true}, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, clientFirst := range []bool{true, false} {
		first, err := h.dial(r.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		second, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !clientFirst {
			first, second = second, first
		}
		for _, c := range []net.Conn{first, second} {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
		}
		if err := first.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := second.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the client first: %v: %d bytes, %v, want the end", clientFirst, n, err)
		}
		if _, err := second.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
			t.Fatalf("the client first: %v: after the end: %v", clientFirst, err)
		}
	}
}

// A bottleneck loses the share of packets that the path says.
func TestLoss(t *testing.T) {
	b := newBottleneck(path{loss: 0.1})
	lost := 0
	for range 10000 {
		if _, ok := b.arrive(1000); !ok {
			lost++
		}
	}
	if lost < 800 || lost > 1200 {
		t.Errorf("%d of 10000 packets are lost, want about 1000", lost)
	}
}
