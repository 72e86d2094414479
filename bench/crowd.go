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

// hold opens n connections to addr, each of which has carried a byte both ways, says so, and keeps
// them until its standard input ends. Thousands of them need descriptors of another process.
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
	if err := inCrowd(n, func(i int) (err error) {
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
	// Those that a tunnel has lost meanwhile were no idle connections.
	if err := inCrowd(n, proved); err != nil {
		return fmt.Errorf("after they were idle: %w", err)
	}
	return nil
}

// inCrowd calls do for every number below n, some at once, and returns the errors.
func inCrowd(n int, do func(i int) error) error {
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

// A crowd is idle connections, held by a process of their own.
type crowd struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  strings.Builder
	ended   bool
	target  *target
	waiting *time.Timer // ends it when it takes too long
}

// crowdPatience bounds how long opening and ending a crowd takes: stunnel needs 20 s for 10,000.
const crowdPatience = 3 * time.Minute

// holdIdle opens n connections through the tunnel and waits until they are there.
func (s *stage) holdIdle(n int) (*crowd, error) {
	cmd, err := command(context.Background(), roleHold, n, s.entry)
	if err != nil {
		return nil, err
	}
	c := &crowd{cmd: cmd, target: s.target}
	c.cmd.Stderr = &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.near.do(func() { err = c.cmd.Start() })
	if err != nil {
		return nil, fmt.Errorf("start the holder of idle connections: %w", err)
	}
	c.waiting = time.AfterFunc(crowdPatience, func() { c.cmd.Process.Kill() })
	if _, err := io.ReadFull(stdout, make([]byte, len("held\n"))); err != nil {
		c.ended = true
		err = errors.Join(err, c.cmd.Wait())
		return nil, fmt.Errorf("open %d idle connections: %w: %s", n, err, c.stderr.String())
	}
	return c, nil
}

// release checks that the connections still live, ends them, and waits until the far end knows.
func (c *crowd) release() error {
	c.ended = true
	c.waiting.Reset(crowdPatience)
	defer c.waiting.Stop()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("idle connections: %w: %s", err, c.stderr.String())
	}
	for deadline := time.Now().Add(crowdPatience); c.target.echoes.Load() > 0; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of the idle connections were closed at the near end alone", c.target.echoes.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// abandon ends it when release has not.
func (c *crowd) abandon() {
	if !c.ended {
		c.waiting.Stop()
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}
