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

// amount is what the tests of this file transfer, in bytes: more than all buffers on the way.
const amount = 48 << 20

// An upload that ends is answered when the backend is ready to, and the other way round: the end of
// one direction leaves the other one alone.
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
				t.Errorf("the one half arrives with digest %s, want %s", got, want)
			}
			sending.Wait()

			// Nothing may come of the half-closed connection while it waits.
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

// What was written before a Close arrives, all of it, however fast the Close follows.
func TestCloseIsLossless(t *testing.T) {
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

// A reset of either application is one for the other, after what was sent before it.
func TestResetTravels(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	t.Run("from the backend", func(t *testing.T) {
		near, far := r.open(t, a)
		passByte(t, far, near)
		vanish(t, far)
		wantReset(t, "the application", near)
	})
	t.Run("from the application", func(t *testing.T) {
		near, far := r.open(t, a)
		passByte(t, near, far)
		vanish(t, near)
		wantReset(t, "the backend", far)
	})
	t.Run("after its own half-close", func(t *testing.T) {
		near, far := r.open(t, a)
		near.CloseWrite()
		if n, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the backend reads %d, %v after a half-close", n, err)
		}
		vanish(t, near)
		noticesReset(t, "the backend", far)
	})
	t.Run("after the other's half-close", func(t *testing.T) {
		near, far := r.open(t, a)
		near.CloseWrite()
		if n, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the backend reads %d, %v after a half-close", n, err)
		}
		vanish(t, far)
		wantReset(t, "the application", near)
	})
}

// A connection whose target cannot be had is reset, and the client's log says which and why.
func TestRefusals(t *testing.T) {
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
	code, reason string   // in the client's log
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
		t.Error("the link went down for it")
	}
}

// A stream whose reader is slow holds up no other, and loses nothing.
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
			// The slow one is at its bound when its writer is no longer heard of.
			for range 3 {
				fast, fastSent := transfer(5)
				if got, want := digestOf(fast), noiseDigest(5, amount); got != want {
					t.Errorf("beside a slow reader arrives digest %s, want %s", got, want)
				}
				if err := <-fastSent; err != nil {
					t.Errorf("the fast writer: %v", err)
				}
				fast.Close()
			}
			select {
			case err := <-slowSent:
				t.Errorf("%d bytes are under way to a reader that takes none (%v)", amount, err)
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

// An application that vanishes is noticed at the other end at once, though the other direction is
// blocked, or its own.
func TestVanishing(t *testing.T) {
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
				vanish(t, gone)
				noticesReset(t, "the other one", stays)
				// And no clean end comes out of it.
				wantReset(t, "the other one", stays)
			})
		}
	}
}

// A reset is never mistaken for an end, whichever of a relay's two directions comes upon it first.
func TestVanishingIsNoEnd(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	for i := range 60 {
		near, far := r.open(t, a)
		gone, stays := near, far
		if i%2 == 1 {
			gone, stays = far, near
		}
		// In mid-transfer towards it: both directions of the relay there are at work.
		stays.SetWriteDeadline(time.Now().Add(time.Duration(i%7) * time.Millisecond))
		copyBig(stays, newNoise(6, amount))
		vanish(t, gone)
		wantReset(t, "the other one", stays)
		stays.Close()
		if t.Failed() {
			t.Fatalf("in round %d", i)
		}
	}
}

// A real process that is killed, and that its system ends the connections of, is noticed too.
func TestKilledApplication(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	a := newApplication(t, machine(t))
	r := setup{targets: []string{a.addr}}.start(t)
	host, port, _ := net.SplitHostPort(r.local[a.addr])
	for _, c := range []struct {
		name    string
		command string // with the connection at descriptor 3
		far     func(t *testing.T, far *net.TCPConn)
	}{
		{"it does not read", "exec sleep 1000", func(t *testing.T, far *net.TCPConn) { fill(t, far) }},
		{"it reads a little and is not read", "dd bs=1 count=1 status=none <&3; exec cat /dev/zero >&3", func(t *testing.T, far *net.TCPConn) {
			// What is left unread at its end makes the system reset the connection.
			if _, err := far.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				t.Fatal(err)
			}
			if _, err := far.Read(make([]byte, 1)); err != nil { // it has begun to write
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
		far.SetDeadline(time.Now().Add(soon))
		if _, err := copyBig(far, newNoise(7, 1<<50)); !isReset(err) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the backend writes on to %v, want a reset", err)
		}
	})
}
