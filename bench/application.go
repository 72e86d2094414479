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

// roleEnv makes this program play a role in a measurement. Its value is the role and its arguments.
const roleEnv = "ADIT_BENCH_ROLE"

// The roles.
const (
	roleHold       = "hold"       // holds N idle connections to ADDRESS
	roleEcho       = "echo"       // echoes on the connection that is file 3
	roleRoundTrips = "roundtrips" // measures round trips for DURATION on that connection
	roleKeystrokes = "keystrokes" // measures keystrokes for DURATION on that connection
)

// playMain is main in a role; it returns the exit status.
func playMain(role string) int {
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func play(role string) error {
	name, args, _ := strings.Cut(role, " ")
	if name == roleHold {
		var n int
		var addr string
		if _, err := fmt.Sscan(args, &n, &addr); err != nil {
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
	d, err := time.ParseDuration(args)
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

// timings are the roles that measure how long bytes take to an echo and back.
var timings = map[string]func(context.Context, net.Conn, time.Duration) ([]time.Duration, error){
	roleRoundTrips: roundTrips,
	roleKeystrokes: keystrokes,
}

// command returns a command that runs this program in a role.
func command(ctx context.Context, role string, args ...any) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), strings.TrimSpace(fmt.Sprintln(append([]any{roleEnv + "=" + role}, args...)...)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// timed measures a pair with two processes, which get its connections: in this process they would wait
// for the goroutines of bulk flows.
func (s *stage) timed(ctx context.Context, p pair, role string, d time.Duration) (took []time.Duration, err error) {
	defer p.close()
	target, err := application(ctx, s.server, p.target, roleEcho)
	if err != nil {
		return nil, err
	}
	defer target.Wait()
	defer target.Process.Kill()
	p.target.Close()
	if s.route != "" { // the WebSocket's state is in this process
		return timings[role](ctx, p.client, d)
	}
	client, err := application(ctx, s.client, p.client, role, d)
	if err != nil {
		return nil, err
	}
	p.client.Close()
	out := client.Stdout.(*bytes.Buffer)
	if err := client.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", role, err, bytes.TrimSpace(out.Bytes()))
	}
	err = json.Unmarshal(out.Bytes(), &took)
	return took, err
}

// duplicate returns a new descriptor of a socket; the caller closes it.
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

// application starts this program in a role with a connection. Its output goes to a buffer.
func application(ctx context.Context, h *host, conn net.Conn, role string, args ...any) (*exec.Cmd, error) {
	cmd, err := command(ctx, role, args...)
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
