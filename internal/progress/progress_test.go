package progress

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fine(context.Context, func(string)) error { return nil }

func TestCheck(t *testing.T) {
	var m Monitor
	if err := m.Check(t.Context(), fine); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := m.Check(t.Context(), func(context.Context, func(string)) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestCheckStuck(t *testing.T) {
	var m Monitor
	var lock sync.Mutex
	lock.Lock()
	probe := func(_ context.Context, at func(string)) error {
		at("the lock")
		lock.Lock()
		defer lock.Unlock()
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := m.Check(ctx, probe); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stuck at the lock") {
		t.Error(err)
	}
	if err := m.Check(ctx, probe); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "previous check has not returned") {
		t.Errorf("second check: %v", err)
	}
	lock.Unlock()
	well, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Check(well, probe); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

// Concurrent checks, such as the watchdog's and a scraper's, all return.
func TestConcurrentChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Monitor
		busy, release := 0, make(chan struct{})
		results := make(chan error, 3)
		for range cap(results) {
			go func() {
				results <- m.Check(t.Context(), func(context.Context, func(string)) error {
					busy++ // the race detector reports two concurrent probes
					<-release
					return nil
				})
			}()
		}
		synctest.Wait()
		if busy != 1 || len(results) > 0 {
			t.Errorf("%d probes run, %d checks have returned", busy, len(results))
		}
		close(release)
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAcceptLoops(t *testing.T) {
	var m Monitor
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := m.Listener(inner)
	accepted, proceed, ended := make(chan net.Conn), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			<-proceed
		}
	}()
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer (<-accepted).Close()
	if err := m.Check(t.Context(), fine); err != nil {
		t.Errorf("a loop that has just left Accept: %v", err)
	}
	later := func(d time.Duration) { // as if d had passed
		m.mu.Lock()
		defer m.mu.Unlock()
		for l := range m.loops {
			if !l.left.IsZero() {
				l.left = l.left.Add(-d)
			}
		}
	}
	later(2 * acceptTimeout)
	if err := m.Check(t.Context(), fine); err == nil || !strings.Contains(err.Error(), inner.Addr().String()) {
		t.Errorf("a loop that is stuck: %v", err)
	}
	proceed <- struct{}{}
	// The loop waits in Accept again, for as long as it likes.
	second, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	defer (<-accepted).Close()
	if err := m.Check(t.Context(), fine); err != nil {
		t.Errorf("a loop that is back: %v", err)
	}
	ln.Close()
	proceed <- struct{}{}
	<-ended
	later(2 * acceptTimeout)
	if err := m.Check(t.Context(), fine); err != nil {
		t.Errorf("a loop that has ended: %v", err)
	}
}
