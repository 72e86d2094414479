//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this program something else that takes part in a measurement. Its value is a role
// and, for some, what it needs to know.
const roleEnv = "ADIT_BENCH_ROLE"

// The roles.
const (
	roleHold       = "hold"       // so many idle connections to an address
	roleEcho       = "echo"       // of what comes by the connection that is file 3
	roleRoundTrips = "roundtrips" // for a time, with that connection
	roleKeystrokes = "keystrokes" // the same
)

// playMain is this program in a role.
func playMain(role string) int {
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func play(role string) error {
	name, needs, _ := strings.Cut(role, " ")
	if name == roleHold {
		var n int
		var addr string
		if _, err := fmt.Sscan(needs, &n, &addr); err != nil {
			return err
		}
		if err := raiseFileLimit(); err != nil {
			return err
		}
		return hold(n, addr)
	}
	conn, err := net.FileConn(os.NewFile(3, "connection"))
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	defer conn.Close()
	if name == roleEcho {
		echo(conn, nil)
		return nil
	}
	d, err := time.ParseDuration(needs)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(d + patience))
	took, err := timings[name](context.Background(), conn, d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// timings measure for a time how long bytes take to an echo and back.
var timings = map[string]func(context.Context, net.Conn, time.Duration) ([]time.Duration, error){
	roleRoundTrips: roundTrips,
	roleKeystrokes: keystrokes,
}

// command is this program in a role.
func command(ctx context.Context, role string, needs ...any) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), strings.TrimSpace(fmt.Sprintln(append([]any{roleEnv + "=" + role}, needs...)...)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// timed has two applications measure a pair, which is theirs then. They are processes of their own,
// as in life: in this one they would wait for the turns of goroutines that have much to do.
func (s *stage) timed(ctx context.Context, p pair, role string, d time.Duration) (took []time.Duration, err error) {
	defer p.close()
	far, err := application(ctx, s.far, p.far, roleEcho)
	if err != nil {
		return nil, err
	}
	defer far.Wait()
	defer far.Process.Kill()
	p.far.Close()
	if s.route != "" { // a WebSocket cannot be handed over
		return timings[role](ctx, p.near, d)
	}
	near, err := application(ctx, s.near, p.near, role, d)
	if err != nil {
		return nil, err
	}
	p.near.Close()
	out := near.Stdout.(*bytes.Buffer)
	if err := near.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", role, err, bytes.TrimSpace(out.Bytes()))
	}
	err = json.Unmarshal(out.Bytes(), &took)
	return took, err
}

// duplicate gives a descriptor of a socket to a caller that closes it.
func duplicate(conn net.Conn) (*os.File, error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var dup int
	failed := raw.Control(func(fd uintptr) { dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := cmp.Or(failed, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), "socket"), nil
}

// application starts this program in a role with a connection. What it says is kept in a buffer.
func application(ctx context.Context, h *host, conn net.Conn, role string, needs ...any) (*exec.Cmd, error) {
	cmd, err := command(ctx, role, needs...)
	if err != nil {
		return nil, err
	}
	file, err := duplicate(conn)
	if err != nil {
		return nil, fmt.Errorf("hand over a connection: %w", err)
	}
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	h.do(func() { err = cmd.Start() })
	if err != nil {
		return nil, fmt.Errorf("start an application: %w", err)
	}
	return cmd, nil
}
