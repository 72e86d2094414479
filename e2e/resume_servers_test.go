//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"syscall"
	"testing"

	"adit/internal/testnet"
)

// A fleet is some servers of the same users and certificate, each behind a path of its own.
type fleet struct {
	*rig     // without a server
	app      *application
	servers  []*server
	paths    []*testnet.Fault
	sessions []int // of each server, that the test knows of
}

func newFleet(t *testing.T, size int, flags ...string) *fleet {
	t.Helper()
	h := machine(t)
	f := &fleet{app: newApplication(t, h)}
	f.rig = &rig{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice"), local: map[string]string{}}
	for range size {
		f.add(t, "127.0.0.1:0", flags...)
		f.paths = append(f.paths, testnet.NewFault(t, f.servers[len(f.paths)].addr))
	}
	f.sessions = make([]int, size)
	return f
}

// add starts one more server.
func (f *fleet) add(t *testing.T, listen string, flags ...string) *server {
	t.Helper()
	s := f.host.server(t, append([]string{"--listen", listen, "--tls-cert", f.pair.cert, "--tls-key", f.pair.key, "--tunnel-path", tunnelPath,
		"--users", writeFile(t, workDir(t), "users.toml", f.alice.users(f.app.addr))}, flags...)...)
	f.servers = append(f.servers, s)
	return s
}

func (f *fleet) url(i int) string { return "wss://" + f.paths[i].Addr() + tunnelPath }

// join starts a client of all the servers.
func (f *fleet) join(t *testing.T, flags ...string) {
	t.Helper()
	args := append([]string{"--proxy", "none", "--token-file", f.alice.tokenFile, "--ca", f.pair.ca, "-L", "127.0.0.1:0:" + f.app.addr}, flags...)
	for i := range f.paths {
		args = append(args, "--server", f.url(i))
	}
	f.client = f.host.client(t, args...)
	f.local[f.app.addr] = f.client.listens(t, f.app.addr)
}

// linkedTo is the line of the client's log that says that a server has the link.
func (f *fleet) linkedTo(i int) string {
	return linkUp + " server=" + regexp.QuoteMeta(f.url(i)) + " "
}

// newSession checks that a server has one more session than the test knew, and the others have not.
func (f *fleet) newSession(t *testing.T, at int) {
	t.Helper()
	f.sessions[at]++
	f.servers[at].wait(t, `msg="session opened"`, f.sessions[at])
	for i, want := range f.sessions {
		if got := f.servers[i].count(`msg="session opened"`); got != want {
			t.Errorf("server %d has had %d sessions, want %d", i, got, want)
		}
	}
}

// bothWays passes a byte each way.
func bothWays(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	passByte(t, near, far)
	passByte(t, far, near)
}

// A server that dies takes its streams along. Its successor at the same address knows nothing of them,
// and so they are reset, without a wait, and new ones work. Who connects in between waits.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.join(t)
	near, far := f.open(t, f.app)
	f.servers[0].kill(t)
	f.client.wait(t, linkLost, 1)
	between := f.connect(t, f.app.addr) // the client listens all the time
	if _, err := between.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	wantReset(t, "the backend", far)
	f.client.wait(t, `msg="connect failed"`, 1)
	f.add(t, f.servers[0].addr)
	f.client.wait(t, linkUp, 2)
	wantReset(t, "the application", near)
	f.client.wait(t, linkDown+`.*does not know the session`, 1)
	served := f.app.accept(t)
	if _, err := io.ReadFull(served, make([]byte, 1)); err != nil {
		t.Errorf("what was written in between: %v", err)
	}
	bothWays(t, between, served)
	near, far = f.open(t, f.app)
	bothWays(t, near, far)
	between.Close() // a server waits for what is open
	served.Close()
	if n := f.client.count(linkResumed) + f.client.count(linkMigrated); n != 0 {
		t.Errorf("the session of the dead server went on %d times", n)
	}
}

// Behind a balancer that sends the client elsewhere a resumption is a new session: the streams of the
// old one are reset at both ends, and nothing of them comes out at the other server.
func TestResumedElsewhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, "--resume-timeout", "2s")
	balancer := f.paths[0]
	f.paths = f.paths[:1]
	f.join(t)
	f.newSession(t, 0)
	near, far := f.open(t, f.app)
	for there, back := range []int{0, 1} {
		next := 1 - back
		balancer.SetBackend(f.servers[next].addr)
		balancer.Cut()
		f.client.wait(t, linkUp, 2+there)
		f.newSession(t, next)
		wantReset(t, "the application", near)
		f.client.wait(t, linkDown+`.*does not know the session`, 1+there)
		nextNear, nextFar := f.open(t, f.app)
		wantReset(t, "the backend", far) // when that server has waited for long enough
		bothWays(t, nextNear, nextFar)
		near, far = nextNear, nextFar
	}
	if n := f.client.count(linkResumed); n != 0 {
		t.Errorf("a session went on %d times at a server that cannot know it", n)
	}
}

// The first server that works has the link, and the first of all is preferred as soon as it is back.
// What was begun at one ends there: also when that one was out of reach for a while.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.paths[0].Down()
	f.join(t, "--prefer-interval", "1s")
	f.client.wait(t, f.linkedTo(1), 1)
	f.newSession(t, 1)
	atSecond, farSecond := f.open(t, f.app)

	f.paths[0].Up(t)
	f.client.wait(t, f.linkedTo(0), 1)
	f.client.wait(t, linkReplaced+` server=`+regexp.QuoteMeta(f.url(1))+` streams=1`, 1)
	f.newSession(t, 0)
	atFirst, farFirst := f.open(t, f.app)
	bothWays(t, atSecond, farSecond)

	// Out of reach: another takes over, and what has begun waits.
	f.paths[0].Down()
	f.client.wait(t, linkLost+` server=`+regexp.QuoteMeta(f.url(0)), 1)
	f.client.wait(t, f.linkedTo(1), 2)
	f.newSession(t, 1)
	f.servers[0].wait(t, linkLost, 1)
	again, farAgain := f.open(t, f.app)
	bothWays(t, again, farAgain)
	bothWays(t, atSecond, farSecond)
	if _, err := atFirst.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	f.paths[0].Up(t)
	f.servers[0].wait(t, linkResumed, 1)
	if _, err := io.ReadFull(farFirst, make([]byte, 1)); err != nil {
		t.Errorf("what was written to the server while it was away: %v", err)
	}
	bothWays(t, atFirst, farFirst)
	f.client.wait(t, f.linkedTo(0), 2) // preferred again, which is another session

	// Sessions that were left end with their last streams.
	for _, conn := range []*net.TCPConn{atFirst, farFirst, atSecond, farSecond, again, farAgain} {
		conn.Close()
	}
	f.servers[0].wait(t, `msg="session closed".*reason="the client is done"`, 1)
	f.servers[1].wait(t, `msg="session closed".*reason="the client is done"`, 2)
	near, far := f.open(t, f.app)
	bothWays(t, near, far)
	if n := f.client.count(linkDown) + f.client.count(streamLost); n != 0 {
		t.Error("something was lost on the way")
	}
	if n := f.servers[2].count(`msg="session opened"`); n != 0 {
		t.Errorf("the last server has had %d sessions", n)
	}
}

// In random order clients spread.
func TestServersInRandomOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	for range 40 { // to meet the same one each time takes more luck than anybody has
		f.join(t, "--server-order", "random")
		f.client.stop(t)
		if f.servers[0].count(`msg="session opened"`) > 0 && f.servers[1].count(`msg="session opened"`) > 0 {
			return
		}
	}
	t.Error("40 clients went to the same server")
}

// A server that is told to stop takes nothing new and lets go on what has begun, while its successor
// serves already; then it ends well. Told twice it ends at once.
func TestServerDrains(t *testing.T) {
	t.Parallel()
	for _, twice := range []bool{false, true} {
		t.Run(map[bool]string{false: "in its time", true: "at once"}[twice], func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2)
			f.join(t)
			near, far := f.open(t, f.app)
			old := f.servers[0]
			old.stopped = true
			old.signal(t, syscall.SIGTERM)
			old.wait(t, `msg=stopping`, 1)
			f.client.wait(t, f.linkedTo(1), 1)
			nextNear, nextFar := f.open(t, f.app)
			bothWays(t, near, far)
			if old.ended() {
				t.Fatal("the server does not wait for its stream")
			}
			if twice {
				old.signal(t, syscall.SIGTERM)
				<-old.done
				if status := old.cmd.ProcessState.ExitCode(); status != 1 {
					t.Errorf("it ended with %v, want 1", old.cmd.ProcessState)
				}
				wantReset(t, "the application", near)
				wantReset(t, "the backend", far)
			} else {
				if err := exchangeAndEnd(near, far); err != nil {
					t.Error(err)
				}
				<-old.done
				if !old.cmd.ProcessState.Success() {
					t.Errorf("it ended with %v, want 0", old.cmd.ProcessState)
				}
			}
			bothWays(t, nextNear, nextFar)
		})
	}
}

// exchangeAndEnd moves some data each way, which ends the connection.
func exchangeAndEnd(near, far *net.TCPConn) error {
	const size = 16 << 20
	result := make(chan error, 1)
	go func() { result <- exchange(far, 2, 1, size) }()
	err := exchange(near, 1, 2, size)
	if farErr := <-result; farErr != nil {
		return fmt.Errorf("the backend: %w", farErr)
	}
	if err != nil {
		return fmt.Errorf("the application: %w", err)
	}
	near.Close()
	far.Close()
	return nil
}
