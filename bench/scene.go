//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
)

// A scene is two hosts with a path between them.
type scene struct {
	path   path
	client *host // of the tunnel's client and the applications
	server *host // of the tunnel's server and the target
	wire   *wire // nil unless the path is emulated
	certs  certificates
	dir    string

	processors int // GOMAXPROCS of this program before
}

// pathProcessors is GOMAXPROCS of this program while packets of an emulated path pass through it. On
// two cores, with two, a packet that is due waits for milliseconds for the goroutines of the load
// generator, and the delay would look like the tunnel's.
const pathProcessors = 16

// newScene makes the hosts and the path between them; on loopback both hosts are the machine.
// congestion is TCP's congestion control in namespaces, "" for the machine's.
func newScene(ctx context.Context, machine *host, dir string, p path, congestion string) (*scene, error) {
	s := &scene{path: p, client: machine, server: machine, dir: dir, processors: runtime.GOMAXPROCS(0)}
	if p.emulated() {
		runtime.GOMAXPROCS(pathProcessors)
	}
	var err error
	if p.namespaces() {
		err = s.isolate(ctx, congestion)
		switch {
		case err != nil:
		case p.veth:
			err = connectVeth(ctx, s.client, s.server)
		default:
			s.wire, err = connectTUN(ctx, p, s.client, s.server)
		}
	}
	if err == nil {
		s.certs, err = newCertificates(dir, s.client.ip, s.server.ip)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// isolate replaces the hosts by network namespaces. A namespace copies the machine's congestion
// control when it is made, and may later change only to one of tcp_allowed_congestion_control.
func (s *scene) isolate(ctx context.Context, congestion string) error {
	if congestion != "" {
		const file = "/proc/sys/net/ipv4/tcp_congestion_control"
		before := lineOf(file, "")
		if err := s.client.write(file, congestion); err != nil {
			return fmt.Errorf("set the congestion control: %w", err)
		}
		defer s.client.write(file, before)
	}
	client, err := isolated(ctx, "10.78.0.1")
	if err != nil {
		return err
	}
	s.client = client
	server, err := isolated(ctx, "10.78.0.2")
	if err != nil {
		return err
	}
	s.server = server
	return nil
}

// close removes the path and the namespaces; every stage must be closed before.
func (s *scene) close() {
	if s.wire != nil {
		s.wire.close()
	}
	for _, h := range []*host{s.client, s.server} {
		if h.namespace {
			h.close()
		}
	}
	runtime.GOMAXPROCS(s.processors)
}
