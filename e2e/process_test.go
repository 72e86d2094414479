//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A spec describes how to start a process.
type spec struct {
	argv  []string
	stdin *os.File            // nil: empty
	env   []string            // added to cleanEnv
	dir   string              // working directory, "" for /
	cred  *syscall.Credential // nil: the test's
}

// A process runs in the background until the end of the test at the latest.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *logLines
	done chan struct{} // closed when it has ended; cmd.ProcessState is valid then

	stopped bool // by the test
}

// start starts a process in the host, in its own process group. At the end of the test the group is
// terminated; if the test failed, the output is logged.
func (h *host) start(t *testing.T, name string, s spec) *process {
	t.Helper()
	cmd := exec.Command(program(t, s.argv[0]), s.argv[1:]...)
	cmd.Dir = s.dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append(cleanEnv(os.TempDir()), s.env...)
	cmd.SysProcAttr = ownGroup()
	cmd.SysProcAttr.Credential = s.cred
	// Wait returns even if a grandchild keeps the output open.
	cmd.WaitDelay = 5 * time.Second
	p := &process{name: name, cmd: cmd, log: newLogLines(), done: make(chan struct{})}
	if s.stdin != nil {
		cmd.Stdin = s.stdin
	}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if !printsSecret(s.argv) {
		recordOutput(name+" in "+t.Name(), withoutHeaderDump(s.env, p.log.all))
	}
	var err error
	h.do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
		p.log.end()
	}()
	t.Cleanup(func() {
		p.destroy()
		if t.Failed() {
			t.Logf("output of %s (%v):\n%s", name, cmd.ProcessState, p.log.tail(200))
		}
	})
	return p
}

// ownGroup puts a child into a process group of its own, so that all of it can be killed, and makes
// the kernel kill the child when the thread that started it ends.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// cleanEnv returns the environment of every process, without the developer's proxies, tokens and
// locale.
func cleanEnv(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + filepath.Dir(aditBin),
		"HOME=" + home, "TMPDIR=" + os.TempDir(), "LC_ALL=C.UTF-8",
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to the process alone.
func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %v to %s: %v", sig, p.name, err)
	}
}

// kill kills the process and its children.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.stopped = true
	if err := unix.Kill(-p.pid(), unix.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", p.name, err)
	}
	<-p.done
}

// destroy terminates the process group, by SIGKILL if SIGTERM does not suffice.
func (p *process) destroy() {
	unix.Kill(-p.pid(), unix.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	unix.Kill(-p.pid(), unix.SIGKILL)
	<-p.done
}

// stop stops the process by SIGTERM, as a service manager would. It must exit with status 0 and
// leave no child.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.stopped = true
	if p.ended() {
		t.Errorf("%s ended before it was stopped: %v", p.name, p.cmd.ProcessState)
		return
	}
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		// This logs the goroutines.
		p.signal(t, syscall.SIGQUIT)
		t.Errorf("%s still runs a minute after SIGTERM", p.name)
		return
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("%s ended with %v after SIGTERM, want exit status 0", p.name, p.cmd.ProcessState)
	}
	if err := unix.Kill(-p.pid(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("%s left processes of its group behind: %v", p.name, err)
	}
}

// patience bounds waits for events that happen at once. It only matters for failures.
const patience = time.Minute

// wait waits for the nth (from 1) output line that matches pattern and returns its submatches.
func (p *process) wait(t *testing.T, pattern string, nth int) []string {
	t.Helper()
	return p.waitWithin(t, patience, pattern, nth)
}

func (p *process) waitWithin(t *testing.T, within time.Duration, pattern string, nth int) []string {
	t.Helper()
	m, err := p.log.find(regexp.MustCompile(pattern), nth, within)
	if err != nil {
		t.Fatalf("%s: waiting for line %d that matches %q: %v", p.name, nth, pattern, err)
	}
	return m
}

// count returns how many output lines match pattern.
func (p *process) count(pattern string) int { return p.log.count(regexp.MustCompile(pattern)) }

// awaitPort waits until the process accepts connections on a numeric address of h.
func (p *process) awaitPort(t *testing.T, h *host, addr string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%s accepts connections on %s", p.name, addr), func() error {
		if p.ended() {
			t.Fatalf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, p.log.tail(50))
		}
		conn, err := h.dial(addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// eventually polls until check returns nil.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v not yet: %s: %v", within, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logLines collects the output of a process line by line; tests wait for lines in it.
type logLines struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	ended   bool
	changed chan struct{} // closed and replaced at every change
}

func newLogLines() *logLines { return &logLines{changed: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.lines = append(l.lines, string(line))
		l.partial = rest
	}
	l.notify()
	return len(p), nil
}

func (l *logLines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.lines = append(l.lines, string(l.partial))
		l.partial = nil
	}
	l.ended = true
	l.notify()
}

func (l *logLines) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logLines) find(re *regexp.Regexp, nth int, within time.Duration) ([]string, error) {
	timeout := time.After(within)
	next, seen := 0, 0
	for {
		l.mu.Lock()
		for ; next < len(l.lines); next++ {
			if m := re.FindStringSubmatch(l.lines[next]); m != nil {
				if seen++; seen == nth {
					l.mu.Unlock()
					return m, nil
				}
			}
		}
		ended, changed := l.ended, l.changed
		l.mu.Unlock()
		if ended {
			return nil, errors.New("the process has ended")
		}
		select {
		case <-changed:
		case <-timeout:
			return nil, fmt.Errorf("not within %v", within)
		}
	}
}

func (l *logLines) count(re *regexp.Regexp) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if re.MatchString(line) {
			n++
		}
	}
	return n
}

func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// tail returns the last n lines, indented.
func (l *logLines) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("… %d lines left out", len(lines)-n)}, lines[len(lines)-n:]...)
	}
	return "\t" + strings.Join(lines, "\n\t")
}
