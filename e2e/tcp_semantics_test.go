//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"adit/internal/testnet"
)

// amount is how many bytes the tests of this file transfer: more than all buffers on the path hold.
const amount = 48 << 20

// The end of one direction does not affect the other: the backend can answer a finished upload
// later, and vice versa.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for _, c := range []struct {
		name string
		ends func() (first, last *net.TCPConn)
	}{
		{"the application first", func() (_, _ *net.TCPConn) { return r.open(t, a) }},
		{"the backend first", func() (_, _ *net.TCPConn) {
			near, far := r.open(t, a)
			return far, near
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, last := c.ends()
			var sending sync.WaitGroup
			sending.Go(func() {
				if _, err := copyBig(first, newNoise(2, amount)); err != nil {
					t.Errorf("send: %v", err)
				}
				if err := first.CloseWrite(); err != nil {
					t.Errorf("half-close: %v", err)
				}
			})
			if got, want := digestOf(last), noiseDigest(2, amount); got != want {
				t.Errorf("the upload arrives with digest %s, want %s", got, want)
			}
			sending.Wait()

			// The half-closed connection must stay silent while it waits.
			first.SetReadDeadline(time.Now().Add(3 * time.Second))
			if n, err := first.Read(make([]byte, 1)); !errIsTimeout(err) {
				t.Errorf("before the answer: %d, %v", n, err)
			}
			first.SetReadDeadline(time.Now().Add(patience))

			sending.Go(func() {
				if _, err := copyBig(last, newNoise(3, amount)); err != nil {
					t.Errorf("answer: %v", err)
				}
				last.Close()
			})
			if got, want := digestOf(first), noiseDigest(3, amount); got != want {
				t.Errorf("the answer arrives with digest %s, want %s", got, want)
			}
			sending.Wait()
		})
	}
}

// All data that was written before a Close arrives, however soon the Close follows.
func TestCloseDeliversAllData(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for i := range 50 {
		near, far := r.open(t, a)
		from, to := near, far
		if i%2 == 1 {
			from, to = far, near
		}
		const size = 300_000
		go func() {
			copyBig(from, newNoise(uint64(i), size))
			from.Close()
		}()
		if got, want := digestOf(to), noiseDigest(uint64(i), size); got != want {
			t.Fatalf("transfer %d arrives with digest %s, want %s", i, got, want)
		}
		to.Close()
	}
}

// A reset by either application reaches the other one, after the data that was sent before it.
func TestResetPropagates(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	t.Run("from the backend", func(t *testing.T) {
		near, far := r.open(t, a)
		passByte(t, far, near)
		resetWithUnreadData(t, far)
		wantReset(t, "the application", near)
	})
	t.Run("from the application", func(t *testing.T) {
		near, far := r.open(t, a)
		passByte(t, near, far)
		resetWithUnreadData(t, near)
		wantReset(t, "the backend", far)
	})
	t.Run("after its own half-close", func(t *testing.T) {
		near, far := r.open(t, a)
		near.CloseWrite()
		if n, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the backend reads %d, %v after a half-close", n, err)
		}
		resetWithUnreadData(t, near)
		noticesReset(t, "the backend", far)
	})
	t.Run("after the other's half-close", func(t *testing.T) {
		near, far := r.open(t, a)
		near.CloseWrite()
		if n, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the backend reads %d, %v after a half-close", n, err)
		}
		resetWithUnreadData(t, far)
		wantReset(t, "the application", near)
	})
}

// A connection whose target cannot be reached is reset; the client's log says which target and why.
func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []refusal{
		{name: "refused", target: testnet.RefusedAddr(t), code: "refused", reason: "connection refused"},
		{name: "forbidden", target: "127.0.0.1:7", allow: []string{"127.0.0.1:8"}, code: "forbidden", reason: "policy"},
		{name: "forbidden name", target: "ssh", allow: []string{"127.0.0.1:8"}, code: "forbidden", reason: "policy"},
		{name: "no answer", target: testnet.Blackhole(t), code: "timeout", reason: "did not answer in time"},
		{name: "no socket", target: "/nowhere/app.sock", allow: []string{"unix:/nowhere/*"}, code: "not-found", reason: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, machine(t))
		})
	}
	t.Run("apart", func(t *testing.T) {
		t.Parallel()
		need(t, "dnsmasq")
		h := isolated(t, "apart")
		h.ip(t, "route add unreachable 192.0.2.0/24")
		d := h.start(t, "dnsmasq", spec{argv: []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file",
			"--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-", "--local=/test/"}})
		d.awaitPort(t, h, "127.0.0.1:53")
		writeFile(t, h.etc, "resolv.conf", "nameserver 127.0.0.1\n")
		for _, c := range []refusal{
			{name: "host unreachable", target: "192.0.2.1:80", code: "unreachable", reason: "no route"},
			{name: "network unreachable", target: "198.51.100.1:80", code: "unreachable", reason: "no route"},
			{name: "name not found", target: "nobody.test:80", code: "not-found", reason: "does not resolve"},
		} {
			t.Run(c.name, func(t *testing.T) { c.run(t, h) })
		}
	})
}

type refusal struct {
	name         string
	target       string
	allow        []string // nil: the target
	code, reason string   // expected in the client's log
}

func (c refusal) run(t *testing.T, h *host) {
	t.Helper()
	r := setup{at: h, targets: []string{c.target}, allow: c.allow}.start(t)
	r.wantNoConnection(t, c.target)
	line := r.client.wait(t, `msg="stream refused".*`, 1)[0]
	for _, want := range []string{"target=" + logged(c.target), "code=" + c.code, c.reason} {
		if !strings.Contains(line, want) {
			t.Errorf("the client's log has no %q: %s", want, line)
		}
	}
	if r.client.count(linkDown) != 0 {
		t.Error("the session ended")
	}
}

// A stream whose reader is slow loses no data and does not slow down other streams.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for _, c := range []struct {
		name string
		down bool
	}{{"download", true}, {"upload", false}} {
		t.Run(c.name, func(t *testing.T) {
			transfer := func(seed uint64) (reader *net.TCPConn, sent <-chan error) {
				near, far := r.open(t, a)
				writer, reader := near, far
				if c.down {
					writer, reader = far, near
				}
				done := make(chan error, 1)
				go func() {
					_, err := copyBig(writer, newNoise(seed, amount))
					done <- errors.Join(err, writer.CloseWrite())
				}()
				return reader, done
			}
			slow, slowSent := transfer(4)
			// The slow stream has reached its limit when its writer makes no progress.
			for range 3 {
				fast, fastSent := transfer(5)
				if got, want := digestOf(fast), noiseDigest(5, amount); got != want {
					t.Errorf("the data beside a slow reader has digest %s, want %s", got, want)
				}
				if err := <-fastSent; err != nil {
					t.Errorf("the fast writer: %v", err)
				}
				fast.Close()
			}
			select {
			case err := <-slowSent:
				t.Errorf("%d bytes are in flight to a reader that reads none (%v)", amount, err)
			default:
			}
			if got, want := digestOf(slow), noiseDigest(4, amount); got != want {
				t.Errorf("the slow reader gets digest %s, want %s", got, want)
			}
			if err := <-slowSent; err != nil {
				t.Errorf("the slow reader's writer: %v", err)
			}
		})
	}
}

// The death of an application is noticed at the other end at once, even if one of the directions is
// blocked.
func TestDeadApplicationWithBlockedDirection(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for _, who := range []string{"application", "backend"} {
		for _, blocked := range []string{"from", "towards", "both ways of"} {
			t.Run(fmt.Sprintf("%s, blocked %s it", who, blocked), func(t *testing.T) {
				near, far := r.open(t, a)
				gone, stays := near, far
				if who == "backend" {
					gone, stays = far, near
				}
				if blocked != "towards" {
					fill(t, gone)
				}
				if blocked != "from" {
					fill(t, stays)
				}
				resetWithUnreadData(t, gone)
				noticesReset(t, "the other end", stays)
				// The other end must see a reset.
				wantReset(t, "the other end", stays)
			})
		}
	}
}

// A reset is never taken for a clean end, whichever direction of a relay detects it first.
func TestDeadApplicationIsNoCleanEnd(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for i := range 60 {
		near, far := r.open(t, a)
		gone, stays := near, far
		if i%2 == 1 {
			gone, stays = far, near
		}
		// The reset comes in the middle of a transfer, while both directions of the relay are
		// active.
		stays.SetWriteDeadline(time.Now().Add(time.Duration(i%7) * time.Millisecond))
		copyBig(stays, newNoise(6, amount))
		resetWithUnreadData(t, gone)
		wantReset(t, "the other end", stays)
		stays.Close()
		if t.Failed() {
			t.Fatalf("in round %d", i)
		}
	}
}

// The death of a real process is noticed, too. The kernel ends its connections.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	host, port, _ := net.SplitHostPort(r.local[a.addr])
	for _, c := range []struct {
		name    string
		command string // inherits the connection as descriptor 3
		far     func(t *testing.T, far *net.TCPConn)
	}{
		{"it does not read", "exec sleep 1000", func(t *testing.T, far *net.TCPConn) { fill(t, far) }},
		{"it reads a little and is not read", "dd bs=1 count=1 status=none <&3; exec cat /dev/zero >&3", func(t *testing.T, far *net.TCPConn) {
			// Unread data makes the kernel reset the connection when the process exits.
			if _, err := far.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				t.Fatal(err)
			}
			// The process has started to write.
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.host.start(t, "application", spec{argv: []string{"bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s; echo connected; %s", host, port, c.command)}})
			far := a.accept(t)
			p.wait(t, "connected", 1)
			c.far(t, far)
			p.kill(t)
			noticesReset(t, "the backend", far)
			wantReset(t, "the backend", far)
		})
	}
	t.Run("it reads", func(t *testing.T) {
		p := r.host.start(t, "application", spec{argv: []string{"bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s; exec cat <&3 >/dev/null", host, port)}})
		far := a.accept(t)
		n := 0
		for b := make([]byte, 256<<10); n < amount; n += len(b) {
			if _, err := far.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		p.kill(t)
		far.SetDeadline(time.Now().Add(shortWait))
		if _, err := copyBig(far, newNoise(7, 1<<50)); !isReset(err) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the backend's writes end with %v, want a reset", err)
		}
	})
}
