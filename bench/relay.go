//go:build linux

package main

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// A relay delays the bytes of TCP connections. The TCP connections on both sides of it are local, so
// that only the tunnel's own windows feel the delay.
type relay struct {
	listener net.Listener
	to       string
	there    *bottleneck
	back     *bottleneck
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	ended bool
}

// newRelay listens on the host and connects each accepted connection to an address.
func newRelay(h *host, p path, to string) (*relay, error) {
	l, err := h.listen()
	if err != nil {
		return nil, fmt.Errorf("listen for the delayed path: %w", err)
	}
	r := &relay{listener: l, to: to, there: newBottleneck(p), back: newBottleneck(p)}
	r.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.DialTimeout("tcp", to, dialTimeout)
			if err != nil {
				in.Close()
				continue
			}
			if !r.own(in, out) {
				return
			}
			r.carry(r.there, in, out)
			r.carry(r.back, out, in)
		}
	})
	return r, nil
}

// own registers connections for close, or closes them at once and returns false after close.
func (r *relay) own(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	r.conns = append(r.conns, conns...)
	return true
}

func (r *relay) carry(b *bottleneck, from, to net.Conn) {
	parcels := make(chan parcel, 1<<10)
	r.running.Go(func() {
		defer close(parcels)
		buf := make([]byte, 64<<10)
		for {
			// Not reading makes TCP's window close, and the sender wait.
			if wait := b.backlog() - b.depth; wait > 0 {
				time.Sleep(wait)
			}
			n, err := from.Read(buf)
			if n > 0 {
				for {
					due, ok := b.arrive(n)
					if ok {
						parcels <- parcel{append([]byte(nil), buf[:n]...), due}
						break
					}
					time.Sleep(time.Millisecond) // another connection has filled the queue
				}
			}
			if err != nil {
				return
			}
		}
	})
	r.running.Go(func() {
		if b.deliver(to, parcels) != nil {
			from.Close()
			for range parcels {
			}
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	})
}

// close ends all connections and waits for the goroutines.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
