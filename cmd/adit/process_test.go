package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds the wait for what should happen at once.
const patience = time.Minute

// process is a running adit. Tests wait for lines of its log.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	// Guarded by mu.
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when lines grows
}

// start starts adit. The end of the test kills it.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	r := &process{t: t, cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		scanner := bufio.NewScanner(stderr)
		for scanner.Scan() {
			r.mu.Lock()
			r.lines = append(r.lines, scanner.Text())
			close(r.more)
			r.more = make(chan struct{})
			r.mu.Unlock()
		}
		cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Logf("adit %s:\n%s", strings.Join(cmd.Args[1:], " "), strings.Join(r.lines, "\n"))
		}
	})
	return r
}

// wait waits for a line of the log that matches, and returns the submatches.
func (r *process) wait(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for next := 0; ; {
		r.mu.Lock()
		for ; next < len(r.lines); next++ {
			if m := re.FindStringSubmatch(r.lines[next]); m != nil {
				r.mu.Unlock()
				return m
			}
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-r.done:
			r.mu.Lock()
			left := len(r.lines) > next
			r.mu.Unlock()
			if !left {
				r.t.Fatalf("adit ended without a line that matches %q", pattern)
			}
		case <-timeout:
			r.t.Fatalf("no line matches %q", pattern)
		}
	}
}

func (r *process) signal(sig syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
}

// ends waits for adit to end, and checks its exit status.
func (r *process) ends(status int) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("adit does not end")
	}
	if got := r.cmd.ProcessState.ExitCode(); got != status {
		r.t.Errorf("exit status %d, want %d", got, status)
	}
}

// log returns the lines of the log so far.
func (r *process) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// waitTimes waits until n lines of the log match.
func (r *process) waitTimes(pattern string, n int) {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		found := 0
		for _, line := range r.lines {
			if re.MatchString(line) {
				found++
			}
		}
		more := r.more
		r.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-more:
		case <-r.done:
			r.t.Fatal("adit ended")
		case <-timeout:
			r.t.Fatalf("%d lines match %q, want %d", found, pattern, n)
		}
	}
}

// adit returns a command that runs this test binary as adit, with an empty
// environment in an empty directory.
func adit(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "adit"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cmd.Dir = t.TempDir()
	return cmd
}

// output runs adit until it ends.
func output(t *testing.T, cmd *exec.Cmd, stdin string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// echoes sends data to addr and expects it back.
func echoes(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "there and back"); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != "there and back" {
		err = fmt.Errorf("got %q", got)
	}
	return err
}
