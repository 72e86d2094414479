//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel/dial"
)

// Detached sessions whose clients never return use no more memory than the configured bound: a
// thousand empty ones, or fewer with many streams or unacknowledged data.
func TestDetachedSessionsMemory(t *testing.T) {
	for _, c := range []struct {
		name                     string
		sessions, streams, bound int
		full                     bool
	}{
		{name: "idle", sessions: 1000, bound: 128 << 20}, // 64 KiB for each, and as much for its last bytes
		{name: "many streams", sessions: 400, streams: 8, bound: 64 << 20},
		{name: "full", sessions: 200, streams: 2, bound: 64 << 20, full: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var workers [4]abandoner
			for i := range workers {
				workers[i] = newAbandoner(t, c.streams, c.full)
			}
			s, bearer := newAbandoners(t, c.bound, workers[:])
			before := s.usage(t)
			var left atomic.Int64
			left.Store(int64(c.sessions))
			inParallel(t, len(workers), func(i int) error {
				for left.Add(-1) >= 0 {
					if err := workers[i].abandon(t, bearer); err != nil {
						return err
					}
				}
				return nil
			})
			s.wait(t, linkLost, c.sessions)
			now := s.usage(t)
			dropped := s.count(`msg="session closed".*too many detached sessions`)
			grown := now.memory - before.memory
			t.Logf("%d of %d sessions were dropped; the server has %v, %v before: %.2f times the bound more",
				dropped, c.sessions, now, before, float64(grown)/float64(c.bound))
			// Go's heap may double before it is collected, and the sessions that were dropped are
			// part of it.
			if grown > 3*int64(c.bound) {
				t.Errorf("%d MiB are held, the bound is %d", grown>>20, c.bound>>20)
			}
			if (c.streams == 0) != (dropped == 0) || dropped == c.sessions {
				t.Errorf("%d of %d sessions were dropped", dropped, c.sessions)
			}
		})
	}
}

// An abandoner makes sessions and leaves them detached.
type abandoner struct {
	target  string
	streams int
	full    bool
	begin   chan struct{} // makes a connection behind the tunnel send
	sent    *atomic.Int64
	path    *testnet.Fault
	rig     *rig
}

func newAbandoner(t *testing.T, streams int, full bool) abandoner {
	a := abandoner{streams: streams, full: full, begin: make(chan struct{}), sent: new(atomic.Int64)}
	ctx := t.Context()
	a.target = testnet.Serve(t, func(conn net.Conn) {
		if full {
			select {
			case <-a.begin:
			case <-ctx.Done():
				return
			}
			b := make([]byte, 64<<10)
			for {
				n, err := conn.Write(b)
				a.sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
		io.Copy(io.Discard, conn)
	})
	return a
}

// newAbandoners starts a server that bounds the memory of detached sessions, and gives each worker
// a path to it.
func newAbandoners(t *testing.T, bound int, workers []abandoner) (s *server, bearer string) {
	t.Helper()
	h := machine(t)
	r := &rig{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice")}
	var targets []string
	for _, w := range workers {
		targets = append(targets, w.target)
	}
	users := writeFile(t, workDir(t), "users.toml", r.alice.users(targets...)+"max-sessions = 10000\n")
	r.server = h.server(t, "--listen", "127.0.0.1:0", "--tls-cert", r.pair.cert, "--tls-key", r.pair.key, "--tunnel-path", tunnelPath,
		"--users", users, "--resume-memory", fmt.Sprint(bound>>20), "--resume-timeout", "10m", "--drain-timeout", "0s")
	for i := range workers {
		workers[i].rig, workers[i].path = r, testnet.NewFault(t, r.server.addr)
	}
	return r.server, r.alice.bearer(t)
}

// abandon opens a session with streams that are in use, and cuts its connection.
func (a *abandoner) abandon(t *testing.T, bearer string) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dial.Dial(ctx, "wss://"+a.path.Addr()+tunnelPath, a.rig.dialer(t, a.rig.pair.trust(t), bearer))
	if err != nil {
		return err
	}
	s, err := mux.Client(ctx, conn, &mux.Config{InitialCredit: 1 << 20, ResumeTimeout: 10 * time.Minute})
	if err != nil {
		return err
	}
	defer s.Close()
	streams := make([]*mux.Stream, a.streams)
	for i := range streams {
		if streams[i], err = s.Open(ctx, mux.Target{Kind: mux.TCP, Address: a.target}); err != nil {
			return err
		}
	}
	for _, st := range streams {
		if err := st.Result(); err != nil {
			return err
		}
	}
	if a.streams == 0 {
		// The server has registered the session as soon as it answers.
		if code := asks(t, s, mux.TCP, "192.0.2.1:1"); code != mux.Forbidden {
			return fmt.Errorf("the server answers %v", code)
		}
	}
	if a.full {
		a.path.Stall(true)
		for range a.streams {
			a.begin <- struct{}{}
		}
		for last := int64(-1); last != a.sent.Load(); time.Sleep(20 * time.Millisecond) {
			last = a.sent.Load()
		}
	}
	a.path.Cut()
	a.path.Stall(false)
	return nil
}
