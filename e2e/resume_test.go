//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

const (
	cutStreams = 8
	cutEvery   = 300 * time.Millisecond
	// cutAmount is how many bytes pass each way over all streams, unless ADIT_RESUME_MIB says how
	// many MiB.
	cutAmount = 512 << 20
)

func amountOfCut(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("ADIT_RESUME_MIB")
	if text == "" {
		return cutAmount
	}
	mib, err := strconv.ParseInt(text, 10, 64)
	if err != nil || mib <= 0 {
		t.Fatalf("ADIT_RESUME_MIB=%q is not a number of MiB", text)
	}
	return mib << 20
}

// A session whose connection is cut several times a second, at any byte and also during a
// handshake, loses only time.
func TestFrequentCuts(t *testing.T) {
	amount := amountOfCut(t)
	whole := transferAll(t, amount, false)
	cut := transferAll(t, amount, true)
	t.Logf("%d MiB each way on %d streams: %s without cuts, %s with one every %v",
		amount>>20, cutStreams, rate(2*amount, whole), rate(2*amount, cut), cutEvery)
}

func rate(n int64, took time.Duration) string {
	return fmt.Sprintf("%.0f MiB/s", float64(n)/(1<<20)/took.Seconds())
}

// transferAll sends an amount each way, beside an interactive stream and half-closed connections,
// and returns how long that took.
func transferAll(t *testing.T, amount int64, cuts bool) (took time.Duration) {
	t.Helper()
	size := amount / cutStreams
	far := make(chan error, cutStreams)
	bulk := testnet.Serve(t, func(conn net.Conn) {
		var number [1]byte
		_, err := io.ReadFull(conn, number[:])
		if err == nil {
			err = exchange(conn.(*net.TCPConn), 100+uint64(number[0]), uint64(number[0]), size)
		}
		far <- err
	})
	echo, ended := testnet.Echo(t), newApplication(t, machine(t))
	var path *testnet.Fault
	r := setup{targets: []string{bulk, echo, ended.addr}, through: func(server string) string {
		path = testnet.NewFault(t, server)
		return path.Addr()
	}}.start(t)

	done := make(chan struct{})
	var beside sync.WaitGroup
	typist := r.connect(t, echo)
	halfDown, farDown := r.open(t, ended)
	halfUp, farUp := r.open(t, ended)
	var delays []time.Duration
	for what, run := range map[string]func() error{
		"typing":                             func() (err error) { delays, err = typeLines(typist, done); return err },
		"a connection that ended at the app": func() error { return trickle(halfDown, farDown, done) },
		"a connection that ended at the far": func() error { return trickle(farUp, halfUp, done) },
	} {
		beside.Go(func() {
			if err := run(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	if cuts {
		beside.Go(func() {
			for {
				select {
				case <-done:
					path.CutAfter(-1)
					return
				case <-time.After(cutEvery):
					path.CutAfter(rand.Int64N(512 << 10))
				}
			}
		})
	}

	start := time.Now()
	inParallel(t, cutStreams, func(i int) error {
		conn, err := r.host.dial(r.local[bulk])
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{byte(i)}); err != nil {
			return err
		}
		return exchange(conn.(*net.TCPConn), uint64(i), 100+uint64(i), size)
	})
	took = time.Since(start)
	close(done)
	beside.Wait()
	for range cutStreams {
		if err := <-far; err != nil {
			t.Errorf("behind the tunnel: %v", err)
		}
	}

	lost, back := r.client.count(linkLost), r.client.count(linkResumed)+r.client.count(linkMigrated)
	if down, streams := r.client.count(linkDown), r.client.count(streamLost); down != 0 || streams != 0 {
		t.Errorf("the session ended %d times, and %d streams were lost", down, streams)
	}
	if cuts != (lost > 0) || cuts && lost < 3 {
		t.Errorf("cuts: %v, and the connection was lost %d times", cuts, lost)
	}
	slices.Sort(delays)
	t.Logf("cuts: %v: lost %d times and resumed %d times, an echo took %v at the median of %d and %v at most",
		cuts, lost, back, delays[len(delays)/2], len(delays), delays[len(delays)-1])
	return took
}

// exchange sends the noise of the seed out while it receives and compares that of the seed in.
func exchange(conn *net.TCPConn, out, in uint64, size int64) error {
	return exchangeSizes(conn, out, size, in, size, nil)
}

// exchangeSizes is exchange with different sizes. halfway, if not nil, is notified when half of the
// input has arrived.
func exchangeSizes(conn *net.TCPConn, out uint64, outSize int64, in uint64, inSize int64, halfway chan<- struct{}) error {
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	sent := make(chan error, 1)
	go func() {
		_, err := copyBig(conn, newNoise(out, outSize))
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	got := &expecting{want: newNoise(in, inSize)}
	if halfway != nil && inSize > 0 {
		got.at, got.reached = inSize/2, halfway
	}
	_, err := copyBig(got, conn)
	if err == nil && got.n != inSize {
		err = fmt.Errorf("a clean end after %d of %d bytes", got.n, inSize)
	}
	if err != nil {
		// This unblocks the sender.
		conn.Close()
	}
	return errors.Join(err, <-sent)
}

// expecting is a writer that compares its input with expected data.
type expecting struct {
	want io.Reader
	buf  []byte
	n    int64

	at      int64 // reached, if not nil, is notified after so many bytes
	reached chan<- struct{}
}

func (e *expecting) Write(p []byte) (int, error) {
	e.buf = slices.Grow(e.buf[:0], len(p))[:len(p)]
	if _, err := io.ReadFull(e.want, e.buf); err != nil {
		return 0, fmt.Errorf("there is more than %d bytes", e.n)
	}
	if !bytes.Equal(p, e.buf) {
		return 0, fmt.Errorf("data between bytes %d and %d differs from what was sent", e.n, e.n+int64(len(p)))
	}
	e.n += int64(len(p))
	if e.reached != nil && e.n >= e.at {
		e.reached <- struct{}{}
		e.reached = nil
	}
	return len(p), nil
}

// typeLines sends lines to an echo one after the other, and returns how long each took.
func typeLines(conn *net.TCPConn, done <-chan struct{}) (delays []time.Duration, err error) {
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	for n := 0; ; n++ {
		line := []byte(fmt.Sprintf("line %d\n", n))
		start := time.Now()
		if _, err := conn.Write(line); err != nil {
			return nil, err
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, line) {
			return nil, fmt.Errorf("%q came back as %q: %v", line, got, err)
		}
		delays = append(delays, time.Since(start))
		select {
		case <-done:
			if err := conn.CloseWrite(); err != nil {
				return nil, err
			}
			_, err := conn.Read(got)
			if err != io.EOF {
				return nil, fmt.Errorf("the end: %w", err)
			}
			return delays, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// trickle half-closes one direction of a connection and sends a small amount of data now and then
// in the other.
func trickle(ended, sending *net.TCPConn, done <-chan struct{}) error {
	for _, conn := range []*net.TCPConn{ended, sending} {
		conn.SetDeadline(time.Now().Add(5 * time.Minute))
	}
	if err := ended.CloseWrite(); err != nil {
		return err
	}
	if n, err := sending.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("instead of a half-close: %d bytes, %w", n, err)
	}
	received := make(chan error, 1)
	got := &expecting{want: newNoise(7, 1<<40)}
	go func() {
		_, err := copyBig(got, ended)
		received <- err
	}()
	var sent int64
	for source := newNoise(7, 1<<40); ; {
		n, err := io.CopyN(sending, source, 1+rand.Int64N(4096))
		sent += n
		if err != nil {
			return err
		}
		select {
		case <-done:
			if err := errors.Join(sending.CloseWrite(), <-received); err != nil || got.n != sent {
				return fmt.Errorf("%d of %d bytes arrived: %v", got.n, sent, err)
			}
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A migration, whoever requests it, interrupts no stream, and new streams work meanwhile.
func TestMigration(t *testing.T) {
	age := []string{"--max-connection-age", "1s"}
	for _, c := range []struct {
		name string
		setup
		ask func(t *testing.T, r *rig)
	}{
		{name: "SIGHUP to the client", ask: func(t *testing.T, r *rig) { r.client.signal(t, syscall.SIGHUP) }},
		{name: "age at the client", setup: setup{client: age}},
		{name: "age at the server", setup: setup{server: age}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			echo := testnet.Echo(t)
			c.setup.targets = []string{echo}
			r := c.setup.start(t)
			typist := r.connect(t, echo)
			typing, stop := context.WithCancel(t.Context())
			defer stop()
			var running sync.WaitGroup
			running.Go(func() {
				if _, err := typeLines(typist, typing.Done()); err != nil {
					t.Errorf("typing: %v", err)
				}
			})
			running.Go(func() {
				for n := int64(0); typing.Err() == nil; n++ {
					if err := echoes(r.host, r.local[echo], n%1000); err != nil {
						t.Errorf("new connection %d: %v", n, err)
					}
				}
			})
			const moves = 3
			for n := 1; n <= moves; n++ {
				if c.ask != nil {
					c.ask(t, r)
				}
				if _, err := r.client.log.find(regexp.MustCompile(linkMigrated), n, patience); err != nil {
					t.Errorf("migration %d: %v", n, err)
				}
			}
			stop()
			running.Wait()
			if r.client.count(linkLost)+r.client.count(linkDown)+r.client.count(streamLost)+r.server.count(linkLost) != 0 {
				t.Error("a migration lost a connection or stream")
			}
		})
	}
}
