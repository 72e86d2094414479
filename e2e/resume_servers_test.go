//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// A fleet is several servers with the same users and certificate, each behind its own path.
type fleet struct {
	*rig     // has no server of its own
	app      *application
	servers  []*server
	paths    []*testnet.Fault
	sessions []int // known sessions, by server
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

// add starts another server.
func (f *fleet) add(t *testing.T, listen string, flags ...string) *server {
	t.Helper()
	s := f.host.server(t, append([]string{"--listen", listen, "--tls-cert", f.pair.cert, "--tls-key", f.pair.key, "--tunnel-path", tunnelPath,
		"--users", writeFile(t, workDir(t), "users.toml", f.alice.users(f.app.addr))}, flags...)...)
	f.servers = append(f.servers, s)
	return s
}

func (f *fleet) url(i int) string { return "wss://" + f.paths[i].Addr() + tunnelPath }

// join starts a client of all servers.
func (f *fleet) join(t *testing.T, flags ...string) {
	t.Helper()
	args := append([]string{"--proxy", "none", "--token-file", f.alice.tokenFile, "--ca", f.pair.ca, "-L", "127.0.0.1:0:" + f.app.addr}, flags...)
	for i := range f.paths {
		args = append(args, "--server", f.url(i))
	}
	f.client = f.host.client(t, args...)
	f.local[f.app.addr] = f.client.listens(t, f.app.addr)
}

// linkedTo matches the client's log message about a new session with server i.
func (f *fleet) linkedTo(i int) string {
	return linkUp + " server=" + regexp.QuoteMeta(f.url(i)) + " "
}

// newSession checks that one server has had one more session than the test knows of, and the others
// have not.
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

// bothWays sends a byte each way.
func bothWays(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	passByte(t, near, far)
	passByte(t, far, near)
}

// When a server is killed and restarted at the same address, its streams are reset at once and new
// ones work. Connections that are accepted in between wait.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.join(t)
	near, far := f.open(t, f.app)
	f.servers[0].kill(t)
	f.client.wait(t, linkLost, 1)
	// The client's listener stays open.
	between := f.connect(t, f.app.addr)
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
		t.Errorf("data written in between: %v", err)
	}
	bothWays(t, between, served)
	near, far = f.open(t, f.app)
	bothWays(t, near, far)
	// A draining server waits for it.
	between.Close()
	served.Close()
	if n := f.client.count(linkResumed) + f.client.count(linkMigrated); n != 0 {
		t.Errorf("the session of the killed server was resumed %d times", n)
	}
}

// If a load balancer sends a resuming client to another server, the client gets a new session: the
// streams of the old one are reset at both ends, and none of their data appears at the other
// server.
func TestResumeAtOtherServer(t *testing.T) {
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
		// The reset comes after that server's resume timeout.
		wantReset(t, "the backend", far)
		bothWays(t, nextNear, nextFar)
		near, far = nextNear, nextFar
	}
	if n := f.client.count(linkResumed); n != 0 {
		t.Errorf("a session was resumed %d times at a server that does not know it", n)
	}
}

// The client uses the first server that works, and returns to the first one when that is back.
// Streams finish at their server, even if it was unreachable for a while.
func TestFailoverAndReturn(t *testing.T) {
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

	// The first server is unreachable: the second one takes over, and existing streams wait.
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
		t.Errorf("data written while the server was unreachable: %v", err)
	}
	bothWays(t, atFirst, farFirst)
	// The first server is preferred again, with a new session.
	f.client.wait(t, f.linkedTo(0), 2)

	// Replaced sessions end with their last stream.
	for _, conn := range []*net.TCPConn{atFirst, farFirst, atSecond, farSecond, again, farAgain} {
		conn.Close()
	}
	f.servers[0].wait(t, `msg="session closed".*reason="the client is done"`, 1)
	f.servers[1].wait(t, `msg="session closed".*reason="the client is done"`, 2)
	near, far := f.open(t, f.app)
	bothWays(t, near, far)
	if n := f.client.count(linkDown) + f.client.count(streamLost); n != 0 {
		t.Error("a stream or connection was lost")
	}
	if n := f.servers[2].count(`msg="session opened"`); n != 0 {
		t.Errorf("the last server has had %d sessions", n)
	}
}

// With random order, clients use different servers.
func TestServersInRandomOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	// The same one each time is practically impossible.
	for range 40 {
		f.join(t, "--server-order", "random")
		f.client.stop(t)
		if f.servers[0].count(`msg="session opened"`) > 0 && f.servers[1].count(`msg="session opened"`) > 0 {
			return
		}
	}
	t.Error("40 clients went to the same server")
}

// A server that is stopped accepts nothing new and lets existing streams finish while its successor
// serves; then it exits with status 0. A second signal ends it at once.
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
				time.Sleep(1200 * time.Millisecond) // earlier it would be the same request
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

// exchangeAndEnd sends data each way and ends the connection.
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
