//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a program under test with its children: sshd and websockify start one for each
// connection.
type process struct {
	name string
	cmd  *exec.Cmd
	out  tail
	done chan struct{} // closed when it has ended
}

// start starts a program in the host.
func (h *host) start(argv, env []string, dir string) (*process, error) {
	path, err := lookPath(argv[0])
	if err != nil {
		return nil, err
	}
	p := &process{name: filepath.Base(argv[0]), cmd: exec.Command(path, argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C.UTF-8"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Wait ends even if a child keeps the output open.
	p.cmd.WaitDelay = 3 * time.Second
	h.do(func() { err = p.cmd.Start() })
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop ends the process and its children, first with SIGTERM.
func (p *process) stop() {
	family := descendants(p.cmd.Process.Pid)
	for _, s := range family {
		unix.Kill(s.pid, unix.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		unix.Kill(p.cmd.Process.Pid, unix.SIGKILL)
		<-p.done
	}
	// Compare the start time: another process may have the number by now.
	for _, s := range family {
		if now, err := readStat(s.pid); err == nil && now.started == s.started {
			unix.Kill(s.pid, unix.SIGKILL)
		}
	}
}

// cpu returns the processor time that the process and its children have used so far.
func (p *process) cpu() time.Duration {
	var ticks int64
	for _, s := range descendants(p.cmd.Process.Pid) {
		ticks += s.ticks
	}
	const perSecond = 100 // USER_HZ, on every Linux system
	return time.Duration(ticks) * time.Second / perSecond
}

// memory returns the resident memory of the process and its children in bytes.
func (p *process) memory() int64 {
	var pages int64
	for _, s := range descendants(p.cmd.Process.Pid) {
		pages += s.pages
	}
	return pages * int64(os.Getpagesize())
}

// A stat is the content of /proc/PID/stat.
type stat struct {
	pid, parent int
	ticks       int64 // user and system time, with ended children
	pages       int64 // resident
	started     string
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in parentheses, which may contain spaces and parentheses.
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 22 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	field := func(n int) int64 { // counted from 1, as in proc(5)
		v, _ := strconv.ParseInt(f[n-3], 10, 64)
		return v
	}
	return stat{
		pid: pid, parent: int(field(4)), ticks: field(14) + field(15) + field(16) + field(17),
		pages: field(24), started: f[22-3],
	}, nil
}

// descendants returns the process, its children, their children, and so on.
func descendants(pid int) []stat {
	entries, _ := os.ReadDir("/proc")
	children := make(map[int][]stat)
	var all []stat
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(n)
		if err != nil { // it has just ended
			continue
		}
		children[s.parent] = append(children[s.parent], s)
		if n == pid {
			all = append(all, s)
		}
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// A tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	if len(t.end) > 2*most {
		t.end = append(t.end[:0], t.end[len(t.end)-most:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.end)
}
