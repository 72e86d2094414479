//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// This file has what the start functions of the peers use.

// runClient starts a program on the client's host, with additional environment variables.
func (s *stage) runClient(env []string, argv ...string) error {
	p, err := s.client.start(argv, env, s.dir)
	if err == nil {
		s.clients = append(s.clients, p)
	}
	return err
}

// runServer starts a program on the server's host, with additional environment variables.
func (s *stage) runServer(env []string, argv ...string) error {
	p, err := s.server.start(argv, env, s.dir)
	if err == nil {
		s.servers = append(s.servers, p)
	}
	return err
}

// across returns the address by which a program on the host from reaches addr over the path.
func (s *stage) across(from *host, addr string) (string, error) {
	if !s.path.relay {
		return addr, nil
	}
	r, err := newRelay(from, s.path, addr)
	if err != nil {
		return "", err
	}
	s.relays = append(s.relays, r)
	return r.listener.Addr().String(), nil
}

// file writes a file for the peer and returns its path.
func (s *stage) file(name, format string, args ...any) (string, error) {
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return file, nil
}

// addresses returns those that a tunnel needs: listen for its server, connect for the client to reach
// the server, and local for the client to listen on.
func (s *stage) addresses() (listen, connect, local string, err error) {
	if listen, err = s.server.freePort(s.server.ip); err != nil {
		return
	}
	if connect, err = s.across(s.client, listen); err != nil {
		return
	}
	local, err = s.client.freePort("127.0.0.1")
	return
}

// accepts waits until a program accepts connections at an address of either host.
func (s *stage) accepts(addr string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := s.hostOf(addr).dial(addr)
		if err == nil {
			conn.Close()
			return nil
		}
		if gone := s.ended(); gone != nil {
			return fmt.Errorf("%s ended by itself", gone.name)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing listens on %s within %v: %w", addr, patience, err)
		}
	}
}

func (s *stage) hostOf(addr string) *host {
	if ip, _, _ := net.SplitHostPort(addr); ip == s.client.ip {
		return s.client
	}
	return s.server
}
