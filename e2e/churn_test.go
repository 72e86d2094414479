//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// usage is the resources of a process.
type usage struct {
	descriptors, threads int
	memory               int64 // resident, in bytes
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d MiB", u.descriptors, u.threads, u.memory>>20)
}

func (p *process) usage(t *testing.T) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.pid())
	descriptors, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatalf("resources of %s: %v", p.name, err)
	}
	u.descriptors = len(descriptors)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatalf("resources of %s: %v", p.name, err)
	}
	field := func(name string) int64 {
		m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)`).FindSubmatch(status)
		if m == nil {
			t.Fatalf("/proc has no %s:\n%s", name, status)
		}
		n, _ := strconv.ParseInt(string(m[1]), 10, 64)
		return n
	}
	u.threads, u.memory = int(field("Threads")), field("VmRSS")<<10
	return u
}

// settles waits until the process has no more descriptors than before, and checks that its other
// resources have not grown much.
func (p *process) settles(t *testing.T, before usage) {
	t.Helper()
	eventually(t, patience, p.name+" has returned its descriptors", func() error {
		if now := p.usage(t); now.descriptors > before.descriptors {
			return fmt.Errorf("it has %v, before %v", now, before)
		}
		return nil
	})
	// The runtime keeps threads and returns memory late, but a leak would be in the thousands.
	now := p.usage(t)
	if now.threads > before.threads+20 || now.memory > 2*before.memory+64<<20 {
		t.Errorf("%s has %v, before %v", p.name, now, before)
	}
}

// goroutines makes a process print its goroutines and exit, and counts them.
func (p *process) goroutines(t *testing.T) int {
	t.Helper()
	p.stopped = true
	p.signal(t, syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end on SIGQUIT", p.name)
	}
	return p.count(`^goroutine \d+ `)
}

// transferMegabyte sends a megabyte to an echo and reads it back.
func transferMegabyte(t *testing.T, echo string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", echo, patience)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	const size = 1 << 20
	go func() {
		conn.Write(make([]byte, size))
		conn.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, conn); n != size || err != nil {
		t.Fatalf("%d bytes came back: %v", n, err)
	}
}

// Ten thousand connections, ended in every possible way, leak nothing in either process.
func TestTenThousandConnections(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	refused := testnet.RefusedAddr(t)
	r := setup{targets: []string{echo, refused}}.start(t)
	const atOnce = 40
	var failures atomic.Int64
	churn := func(connections int) {
		var running sync.WaitGroup
		var next atomic.Int64
		for range atOnce {
			running.Go(func() {
				for {
					i := int(next.Add(1))
					if i > connections || failures.Load() > 10 {
						return
					}
					if err := shortConnection(i, r.local[echo], r.local[refused]); err != nil {
						failures.Add(1)
						t.Errorf("connection %d: %v", i, err)
					}
				}
			})
		}
		running.Wait()
	}
	churn(500)
	// The link opens one more descriptor on first bulk use.
	transferMegabyte(t, r.local[echo])
	// Wait until the connections of the warm-up have ended.
	var before [2]usage
	both := []*process{r.client.process, r.server.process}
	for i, p := range both {
		p.settles(t, usage{descriptors: 24, threads: 1 << 20, memory: 1 << 40})
		before[i] = p.usage(t)
	}
	churn(10_000)
	for i, p := range both {
		p.settles(t, before[i])
		t.Logf("%s: %v, before %v", p.name, p.usage(t), before[i])
	}
	if r.client.count(linkDown) != 0 {
		t.Error("the session ended")
	}
	for _, p := range both {
		if n := p.goroutines(t); n < 5 || n > 60 {
			t.Errorf("%s has %d goroutines with no connection open", p.name, n)
		} else {
			t.Logf("%s: %d goroutines", p.name, n)
		}
	}
}

// shortConnection makes a connection whose use and end depend on i.
func shortConnection(i int, echo, refused string) error {
	addr := echo
	if i%10 == 9 {
		addr = refused
	}
	c, err := net.DialTimeout("tcp", addr, patience)
	if addr == refused && (isReset(err)) {
		return nil
	}
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if addr == refused {
		if n, err := conn.Read(make([]byte, 1)); !isReset(err) {
			return fmt.Errorf("refused, and reads %d, %v", n, err)
		}
		return nil
	}
	if i%5 == 4 {
		// Only open and close.
		return nil
	}
	text := strconv.Itoa(i) + strings.Repeat(".", i%1000)
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	if i%5 == 3 {
		// Reset while an answer is in flight.
		return conn.SetLinger(0)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		return fmt.Errorf("got %q, %w", got, err)
	}
	switch i % 5 {
	case 0:
		// The application closes.
		return nil
	case 1:
		return conn.SetLinger(0)
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if n, err := conn.Read(got); err != io.EOF {
		return fmt.Errorf("after a half-close: %d, %v", n, err)
	}
	return nil
}
