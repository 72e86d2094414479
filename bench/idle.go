//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// idleConnections measures the memory of idle connections and an upload beside them, relative to
// one after they have ended.
func idleConnections(ctx context.Context, s *stage, set settings) (values, error) {
	n := set.idle
	if s.peer.most > 0 {
		n = min(n, s.peer.most)
	}
	client, server := memoryOf(s.clients), memoryOf(s.servers)
	idle, err := s.holdIdle(n)
	if err != nil {
		return nil, err
	}
	defer idle.abandon()
	// Time for a garbage collector to return what opening took.
	if err := pause(ctx, set.d); err != nil {
		return nil, err
	}
	client, server = memoryOf(s.clients)-client, memoryOf(s.servers)-server
	upload := transfer(1, up)
	beside, err := upload(ctx, s, set)
	if err != nil {
		return nil, err
	}
	if err := idle.release(); err != nil {
		return nil, err
	}
	alone, err := upload(ctx, s, set)
	return values{
		keyHeld: float64(n), keyClient: float64(client) / float64(n) / 1e3, keyServer: float64(server) / float64(n) / 1e3,
		keyRate: beside[keyRate], keyShare: 100 * beside[keyRate] / alone[keyRate],
	}, err
}

func memoryOf(processes []*process) (sum int64) {
	for _, p := range processes {
		sum += p.memory()
	}
	return sum
}

// hold opens n connections to addr, has each carry a byte in both directions, prints "held", and keeps
// them until its standard input ends. It is a process of its own for its file descriptors.
func hold(n int, addr string) error {
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	proved := func(i int) error {
		conns[i].SetDeadline(time.Now().Add(patience))
		return askEcho(conns[i])
	}
	if err := concurrently(n, func(i int) (err error) {
		if conns[i], err = net.DialTimeout("tcp", addr, dialTimeout); err != nil {
			return err
		}
		return proved(i)
	}); err != nil {
		return err
	}
	fmt.Println("held")
	if _, err := bufio.NewReader(os.Stdin).ReadByte(); !errors.Is(err, io.EOF) {
		return err
	}
	// A connection that the tunnel has lost meanwhile must not count.
	if err := concurrently(n, proved); err != nil {
		return fmt.Errorf("after they were idle: %w", err)
	}
	return nil
}

// concurrently calls do for every number below n, 32 at a time, and returns the errors.
func concurrently(n int, do func(i int) error) error {
	const atOnce = 32
	var (
		next atomic.Int64
		all  sync.WaitGroup
		errs = make([]error, atOnce)
	)
	for worker := range errs {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[worker] == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					errs[worker] = fmt.Errorf("connection %d: %w", i+1, err)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// A holder is the process that holds idle connections.
type holder struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  strings.Builder
	ended   bool
	target  *target
	timeout *time.Timer // kills the process
}

// holdTimeout bounds opening and closing; stunnel needs 20 s for 10,000 connections.
const holdTimeout = 3 * time.Minute

// holdIdle opens n connections through the tunnel.
func (s *stage) holdIdle(n int) (*holder, error) {
	cmd, err := command(context.Background(), roleHold, n, s.entry)
	if err != nil {
		return nil, err
	}
	h := &holder{cmd: cmd, target: s.target}
	h.cmd.Stderr = &h.stderr
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.client.do(func() { err = h.cmd.Start() })
	if err != nil {
		return nil, fmt.Errorf("start the holder of idle connections: %w", err)
	}
	h.timeout = time.AfterFunc(holdTimeout, func() { h.cmd.Process.Kill() })
	if _, err := io.ReadFull(stdout, make([]byte, len("held\n"))); err != nil {
		h.ended = true
		err = errors.Join(err, h.cmd.Wait())
		return nil, fmt.Errorf("open %d idle connections: %w: %s", n, err, h.stderr.String())
	}
	return h, nil
}

// release checks that every connection still works, closes them, and waits until the target has seen
// their ends.
func (h *holder) release() error {
	h.ended = true
	h.timeout.Reset(holdTimeout)
	defer h.timeout.Stop()
	h.stdin.Close()
	if err := h.cmd.Wait(); err != nil {
		return fmt.Errorf("idle connections: %w: %s", err, h.stderr.String())
	}
	for deadline := time.Now().Add(holdTimeout); h.target.echoes.Load() > 0; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d idle connections were closed, but not at the target", h.target.echoes.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// abandon kills the process unless release has ended it.
func (h *holder) abandon() {
	if !h.ended {
		h.timeout.Stop()
		h.cmd.Process.Kill()
		h.cmd.Wait()
	}
}
