//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echoProcessEnv makes the test binary run an echo server on its value, an address. Thousands of
// connections need their descriptors in another process.
const echoProcessEnv = "ADIT_E2E_ECHO"

func init() {
	addr := os.Getenv(echoProcessEnv)
	if addr == "" {
		return
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
	fmt.Println("listening", l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept:", err)
			os.Exit(1)
		}
		go func() {
			defer conn.Close()
			b := make([]byte, 4096)
			for {
				n, err := conn.Read(b)
				if _, failed := conn.Write(b[:n]); err != nil || failed != nil {
					return
				}
			}
		}()
	}
}

// echoProcess starts an echo server as a process and returns its address.
func echoProcess(t *testing.T, addr string) (*process, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := machine(t).start(t, "echo", spec{argv: []string{self}, env: []string{echoProcessEnv + "=" + addr}})
	return p, p.wait(t, `^listening (\S+)`, 1)[1]
}

// peakMemory returns the peak resident memory of a process in bytes.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		t.Fatalf("memory of %s: %v", p.name, err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("memory of %s: %v", p.name, err)
	}
	return kib << 10
}

// repeat calls do n times with limited concurrency and returns the errors.
func repeat(n int, do func(i int) error) error {
	var (
		next atomic.Int64
		all  sync.WaitGroup
		errs = make([]error, 32)
	)
	for worker := range errs {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[worker] == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					errs[worker] = fmt.Errorf("number %d: %w", i, err)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// TestFiveThousandConnections opens 5,000 connections at once. All work, and none uses much memory.
func TestFiveThousandConnections(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := 5000
	if testing.Short() {
		n = 500
	}
	if limit.Max < uint64(3*n) {
		skipWithout(t, fmt.Sprintf("%d descriptors a process", 3*n))
	}
	_, addr := echoProcess(t, "127.0.0.1:0")
	r := startRoutes(t, route("/echo", addr))
	before := r.plain.usage(t).memory
	peers := make([]*peer, n)
	defer func() {
		for _, p := range peers {
			if p != nil {
				p.Close()
			}
		}
	}()
	talk := func(i int) error { return peers[i].roundTrip(fmt.Sprintf("this is %d", i)) }
	if err := repeat(n, func(i int) (err error) {
		if peers[i], err = r.dial(overTCP, "/echo", false, ""); err != nil {
			return err
		}
		// The deadline covers all connections on the slowest machine.
		peers[i].wire.(*tcpWire).SetDeadline(time.Now().Add(5 * watchdog))
		return talk(i)
	}); err != nil {
		t.Fatal("while opening:", err)
	}
	if err := repeat(n, talk); err != nil {
		t.Fatal("while all are open:", err)
	}
	each := (r.plain.usage(t).memory - before) / int64(n)
	t.Logf("%d connections: %d KiB of memory each", n, each>>10)
	if each > 64<<10 {
		t.Errorf("a connection takes %d KiB", each>>10)
	}
	if err := repeat(n, func(i int) error { return errors.Join(talk(i), peers[i].bye(), peers[i].Close()) }); err != nil {
		t.Fatal("while closing:", err)
	}
	r.settle(t)
}

// TestBackendRestart kills a backend that has connections and starts it again.
func TestBackendRestart(t *testing.T) {
	backend, addr := echoProcess(t, "127.0.0.1:0")
	r := startRoutes(t, route("/echo", addr))
	for _, by := range transports {
		open := make([]*peer, 20)
		for i := range open {
			p, err := r.dial(by, "/echo", false, "")
			if err != nil {
				t.Fatal(by, err)
			}
			defer p.Close()
			if err := p.roundTrip("before"); err != nil {
				t.Fatal(by, err)
			}
			open[i] = p
		}
		backend.kill(t)
		for _, p := range open {
			// The kernel closes the connections of the killed process in order: no data was unread.
			if err := closesWith(1000, []byte("before"))(nil, p, ""); err != nil {
				t.Errorf("%s: a connection of the killed backend: %v", by, err)
			}
			p.Close()
		}
		var refused *refusedError
		if p, err := r.dial(by, "/echo", false, ""); !errors.As(err, &refused) || refused.status != 502 {
			t.Errorf("%s: without the backend: %v, want 502", by, err)
			if err == nil {
				p.Close()
			}
		}
		backend, _ = echoProcess(t, addr)
		p, err := r.dial(by, "/echo", false, "")
		if err == nil {
			err = errors.Join(p.roundTrip("after"), p.bye(), p.Close())
		}
		if err != nil {
			t.Errorf("%s: after the restart: %v", by, err)
		}
	}
	r.settle(t)
}
