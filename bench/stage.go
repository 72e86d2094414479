//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A scene is where a workload takes place: two hosts with a path between them.
type scene struct {
	path  path
	near  *host // of the application
	far   *host // of the target
	wire  *wire // nil on loopback and over a veth pair
	certs certificates
	dir   string

	processors int // of Go's, before
}

// pathProcessors is how many of Go's processors this program uses while it is a path. With as many
// as the machine has, a packet that is due waits for the turns of goroutines that move the bulk, for
// milliseconds that look like the tunnel's.
const pathProcessors = 16

// newScene makes the hosts and what is between them. Without a path both are the machine. The
// congestion control is TCP's in the namespaces, the machine's if it is "".
func newScene(ctx context.Context, local *host, dir string, p path, congestion string) (*scene, error) {
	s := &scene{path: p, near: local, far: local, dir: dir, processors: runtime.GOMAXPROCS(0)}
	if p != (path{}) && !p.veth {
		runtime.GOMAXPROCS(pathProcessors)
	}
	var err error
	if p.namespaces() {
		if err = s.isolate(ctx, congestion); err == nil && p.veth {
			err = connectVeth(ctx, s.near, s.far)
		} else if err == nil {
			s.wire, err = connect(ctx, p, s.near, s.far)
		}
		if err != nil {
			s.close()
			return nil, err
		}
	}
	if s.certs, err = newCertificates(dir, s.near.ip, s.far.ip); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// isolate replaces the hosts by network namespaces. A namespace takes over the machine's congestion
// control when it is made, and cannot change to one that is not allowed to everybody.
func (s *scene) isolate(ctx context.Context, congestion string) error {
	if congestion != "" {
		const file = "/proc/sys/net/ipv4/tcp_congestion_control"
		before := lineOf(file, "")
		if err := s.near.write(file, congestion); err != nil {
			return fmt.Errorf("set the congestion control: %w", err)
		}
		defer s.near.write(file, before)
	}
	near, err := isolated(ctx, "10.78.0.1")
	if err != nil {
		return err
	}
	s.near = near
	far, err := isolated(ctx, "10.78.0.2")
	if err != nil {
		return err
	}
	s.far = far
	return nil
}

func (s *scene) close() {
	if s.wire != nil {
		s.wire.close()
	}
	for _, h := range []*host{s.near, s.far} {
		if h != nil && h.namespace {
			h.close()
		}
	}
	runtime.GOMAXPROCS(s.processors)
}

// A stage is a scene with one peer on it, from its start to its end.
type stage struct {
	*scene
	dir     string // for this peer's files
	target  *target
	entry   string     // where applications connect
	route   string     // URL path, if the entry is a WebSocket
	tls     bool       // to the route
	nearEnd []*process // of the peer
	farEnd  []*process // of the peer
	relays  []*relay   // of a delayed path
	opened  []pair     // by pairs
	peer    *peer      // who is tried
	madeDir string     // outside of dir, to be removed
}

// start starts the peer and waits until a byte has gone through it both ways.
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
	if st.target, err = newTarget(s.far); err != nil {
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

// close ends everything that belongs to the peer.
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
	return append(append([]*process(nil), s.nearEnd...), s.farEnd...)
}

// ended returns a process that has ended, or nil.
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

// said returns the last output of the processes as an error.
func (s *stage) said() error {
	var all []error
	for _, p := range s.processes() {
		if text := p.out.String(); text != "" {
			all = append(all, fmt.Errorf("output of %s: %s", p.name, text))
		}
	}
	return errors.Join(all...)
}

// cpu returns what both ends of the tunnel have used of the processors so far.
func (s *stage) cpu() (sum time.Duration) {
	for _, p := range s.processes() {
		sum += p.cpu()
	}
	return sum
}

// dial connects an application to the tunnel.
func (s *stage) dial() (net.Conn, error) {
	if s.route == "" {
		return s.near.dial(s.entry)
	}
	var config *tls.Config
	if s.tls {
		config = s.certs.clientConfig()
	}
	return dialRoute(s.entry, s.route, config)
}

// pairs opens n connections through the tunnel, which fail when they have not ended within the
// time.
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

// The rest is for the peers' start functions.

// nearRuns and farRuns start a program of the peer at one end of the path, with additional
// variables of the environment.
func (s *stage) nearRuns(env []string, argv ...string) error {
	p, err := s.near.start(argv, env, s.dir)
	if err == nil {
		s.nearEnd = append(s.nearEnd, p)
	}
	return err
}

func (s *stage) farRuns(env []string, argv ...string) error {
	p, err := s.far.start(argv, env, s.dir)
	if err == nil {
		s.farEnd = append(s.farEnd, p)
	}
	return err
}

// across returns where a program at the host from has to connect to in order to reach addr at the
// other end of the path.
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

// ends returns the addresses that a peer needs: where its far end listens, where its near end
// connects to in order to get there, and where its near end listens for applications.
func (s *stage) ends() (listen, connect, local string, err error) {
	if listen, err = s.far.freePort(s.far.ip); err != nil {
		return
	}
	if connect, err = s.across(s.near, listen); err != nil {
		return
	}
	local, err = s.near.freePort("127.0.0.1")
	return
}

// accepts waits until something listens at an address of one of the hosts.
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
	if ip, _, _ := net.SplitHostPort(addr); ip == s.near.ip {
		return s.near
	}
	return s.far
}
