//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// A stage is one peer that runs in a scene.
type stage struct {
	*scene
	peer    *peer
	dir     string // the peer's files
	madeDir string // a directory outside of dir that close removes
	target  *target
	entry   string // address that applications connect to
	route   string // URL path if the entry is a WebSocket
	tls     bool   // TLS to the route
	clients []*process
	servers []*process
	relays  []*relay
	opened  []pair // every connection of pairs, for close
	bulk    []pair // connections of streams
}

// start starts the peer and waits until it has carried a byte in both directions.
func (s *scene) start(ctx context.Context, p *peer, overTLS bool) (_ *stage, err error) {
	st := &stage{scene: s, peer: p, tls: overTLS}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.said())
			st.close()
		}
	}()
	if st.dir, err = os.MkdirTemp(s.dir, "peer-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if st.target, err = newTarget(s.server); err != nil {
		return nil, err
	}
	if st.entry, err = p.start(st); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		if err = touch(st.dial); err == nil {
			return st, nil
		}
		if gone := st.ended(); gone != nil {
			return nil, fmt.Errorf("%s ended by itself", gone.name)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("not ready within %v: %w", patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// close ends the peer's processes and connections, and removes its files.
func (s *stage) close() {
	for _, p := range s.opened {
		p.close()
	}
	for _, p := range s.processes() {
		p.stop()
	}
	for _, r := range s.relays {
		r.close()
	}
	if s.target != nil {
		s.target.close()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
	if s.madeDir != "" {
		os.Remove(s.madeDir)
	}
}

func (s *stage) processes() []*process {
	return append(append([]*process(nil), s.clients...), s.servers...)
}

// ended returns a process that has ended by itself, or nil.
func (s *stage) ended() *process {
	for _, p := range s.processes() {
		select {
		case <-p.done:
			return p
		default:
		}
	}
	return nil
}

// said returns the end of the processes' output as an error, nil if they wrote nothing.
func (s *stage) said() error {
	var all []error
	for _, p := range s.processes() {
		if text := p.out.String(); text != "" {
			all = append(all, fmt.Errorf("output of %s: %s", p.name, text))
		}
	}
	return errors.Join(all...)
}

// cpu returns the processor time that client and server have used so far.
func (s *stage) cpu() (sum time.Duration) {
	for _, p := range s.processes() {
		sum += p.cpu()
	}
	return sum
}

// dial connects to the tunnel as an application does.
func (s *stage) dial() (net.Conn, error) {
	if s.route == "" {
		return s.client.dial(s.entry)
	}
	var config *tls.Config
	if s.tls {
		config = s.certs.clientConfig()
	}
	return dialRoute(s.entry, s.route, config)
}

// pairs opens n connections through the tunnel. They fail when they are used for longer than within
// and patience together.
func (s *stage) pairs(n int, within time.Duration) ([]pair, error) {
	first := len(s.opened)
	for i := range n {
		p, err := s.target.pair(s.dial)
		if err != nil {
			return nil, fmt.Errorf("open connection %d of %d: %w", i+1, n, err)
		}
		p.setDeadline(time.Now().Add(within + patience))
		s.opened = append(s.opened, p)
	}
	return s.opened[first:], nil
}

// streams returns n connections that bulk workloads use again and again, and opens those that are
// missing. Use them only for bulk, whose flows leave a connection ready for the next one.
func (s *stage) streams(n int, within time.Duration) ([]pair, error) {
	if missing := n - len(s.bulk); missing > 0 {
		more, err := s.pairs(missing, within)
		if err != nil {
			return nil, err
		}
		s.bulk = append(s.bulk, more...)
	}
	for _, p := range s.bulk[:n] {
		p.setDeadline(time.Now().Add(within + patience))
	}
	return s.bulk[:n], nil
}
