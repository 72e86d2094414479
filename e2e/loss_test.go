//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// traffic is the use of a connection during its loss.
type traffic struct {
	name     string
	up, down bool
}

var everyTraffic = []traffic{
	{"idle", false, false},
	{"upload", true, false},
	{"download", false, true},
	{"both ways", true, true},
}

// run keeps the traffic going, calls lose in the middle of it, and requires both ends of the
// connection to be reset.
func (f traffic) run(t *testing.T, near, far *net.TCPConn, lose func()) {
	t.Helper()
	var running sync.WaitGroup
	flowing := make(chan struct{}, 2)
	end := func(who string, conn *net.TCPConn, send, receive bool) {
		var writeErr error
		var writing sync.WaitGroup
		if send {
			writing.Go(func() { _, writeErr = copyBig(conn, newNoise(1, 1<<50)) })
		}
		in := &signalling{r: conn, after: 4 << 20, reached: flowing}
		n, readErr := copyBig(io.Discard, in)
		writing.Wait()
		switch {
		case isReset(readErr):
		case readErr == nil && isReset(writeErr) && !errors.Is(writeErr, syscall.EPIPE):
			// The kernel reports a reset once. Here the writer got it, so the reader sees the end.
		default:
			t.Errorf("%s reads to %v after %d bytes and writes to %v, want a reset", who, readErr, n, writeErr)
		}
	}
	running.Go(func() { end("the application", near, f.up, f.down) })
	running.Go(func() { end("the backend", far, f.down, f.up) })
	for _, flows := range []bool{f.up, f.down} {
		if !flows {
			continue
		}
		select {
		case <-flowing:
		case <-time.After(patience):
			t.Error("the data does not flow")
		}
	}
	lose()
	running.Wait()
}

// signalling closes reached once a number of bytes has been read.
type signalling struct {
	r       io.Reader
	after   int
	reached chan<- struct{}
}

func (s *signalling) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.after > 0 {
		if s.after -= n; s.after <= 0 {
			s.reached <- struct{}{}
		}
	}
	return n, err
}

// resumeFor sets at both ends how long streams wait for the link.
func resumeFor(d string) setup {
	return setup{client: []string{"--resume-timeout", d}, server: []string{"--resume-timeout", d}}
}

// A session that is lost in the middle of a transfer resets its connections at the application and
// at the backend: a truncated file must not look complete. Without resumption this happens at once.
func TestLostSessionResetsStreams(t *testing.T) {
	for _, loss := range []struct {
		name   string
		resume string
		lose   func(t *testing.T, r *rig)
		root   bool
	}{
		{name: "server killed", resume: "0s", lose: func(t *testing.T, r *rig) { r.server.kill(t) }},
		{name: "client killed", resume: "0s", lose: func(t *testing.T, r *rig) { r.client.kill(t) }},
		{name: "link destroyed", resume: "0s", root: true, lose: func(t *testing.T, r *rig) {
			destroyLink(t, r)
			r.client.wait(t, linkDown, 1)
			r.client.wait(t, linkUp, 2)
		}},
		{name: "server gone for long", resume: "1s", lose: func(t *testing.T, r *rig) {
			r.server.kill(t)
			r.client.wait(t, linkLost, 1)
			r.client.wait(t, linkDown+`.*not resumed within 1s`, 1)
		}},
		{name: "client gone for long", resume: "1s", lose: func(t *testing.T, r *rig) {
			r.client.kill(t)
			r.server.wait(t, `msg="session closed".*not resumed within 1s`, 1)
		}},
	} {
		for _, f := range everyTraffic {
			t.Run(loss.name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				if loss.root {
					needRoot(t)
					need(t, "ss")
				}
				a := newApplication(t, machine(t))
				s := resumeFor(loss.resume)
				s.targets = []string{a.addr}
				r := s.start(t)
				near, far := r.open(t, a)
				f.run(t, near, far, func() { loss.lose(t, r) })
			})
		}
	}
}

// If a connection is destroyed, both ends resume the session and its streams continue.
func TestLostConnectionResumes(t *testing.T) {
	const size = 64 << 20
	for _, f := range everyTraffic {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			need(t, "ss")
			a := newApplication(t, machine(t))
			r := setup{targets: []string{a.addr}, server: []string{"--log-level", "debug"}}.start(t)
			near, far := r.open(t, a)
			var up, down int64
			if f.up {
				up = size
			}
			if f.down {
				down = size
			}
			var running sync.WaitGroup
			half := make(chan struct{}, 2)
			end := func(who string, conn *net.TCPConn, out, in int64) {
				if err := exchangeSizes(conn, 1, out, 1, in, half); err != nil {
					t.Errorf("%s: %v", who, err)
				}
			}
			if f.up || f.down {
				running.Go(func() { end("the application", near, up, down) })
				running.Go(func() { end("the backend", far, down, up) })
				<-half
			}
			destroyLink(t, r)
			r.client.wait(t, linkResumed, 1)
			// The client may be back before the server has read the end of its old connection.
			r.server.wait(t, linkResumed+"|"+linkMigrated, 1)
			running.Wait()
			if !f.up && !f.down {
				passByte(t, near, far)
				passByte(t, far, near)
			}
			if r.client.count(linkLost) != 1 || r.client.count(linkDown) != 0 || r.client.count(streamLost) != 0 {
				t.Error("more than a connection was lost")
			}
		})
	}
}

// destroyLink makes the kernel reset the TCP connection of the link, as a middlebox can.
func destroyLink(t *testing.T, r *rig) {
	_, port, _ := net.SplitHostPort(r.server.addr)
	if out := r.host.run(t, "", "ss", "-KHtn", "state", "established", "dport", "=", ":"+port); strings.Count(out, "\n") != 1 {
		t.Errorf("ss -K destroyed these connections, want one:\n%s", out)
	}
}

// Both ends detect a silent connection within 45 s. Its streams continue when the network is back.
// Without resumption they are reset, and the client makes a new session.
func TestSilentLink(t *testing.T) {
	t.Parallel()
	type silent struct {
		*rig
		app       *application
		path      *testnet.Fault
		near, far *net.TCPConn
	}
	start := func(resume string) *silent {
		t.Helper()
		x := &silent{app: newApplication(t, machine(t))}
		s := resumeFor(resume)
		s.targets = []string{x.app.addr}
		s.through = func(server string) string {
			x.path = testnet.NewFault(t, server)
			return x.path.Addr()
		}
		x.rig = s.start(t)
		x.near, x.far = x.open(t, x.app)
		for _, conn := range []*net.TCPConn{x.near, x.far} {
			conn.SetDeadline(time.Now().Add(4 * time.Minute))
		}
		return x
	}
	waiting, ending := start("2m"), start("0s")
	waiting.path.Stall(true)
	ending.path.Stall(true)
	began := time.Now()
	const silence, slack = 45 * time.Second, 15 * time.Second
	within := func() time.Duration { return silence + slack - time.Since(began) }
	waiting.client.waitWithin(t, within(), linkLost+`.*not a byte from the peer`, 1)
	waiting.server.waitWithin(t, within(), linkLost+`.*not a byte from the peer`, 1)
	ending.client.waitWithin(t, within(), linkDown+`.*not a byte from the peer`, 1)
	ending.server.waitWithin(t, within(), `msg="session closed".*not a byte from the peer`, 1)
	wantReset(t, "the application", ending.near)
	wantReset(t, "the backend", ending.far)

	waiting.path.Stall(false)
	ending.path.Stall(false)
	ending.client.wait(t, linkUp, 2)
	ending.open(t, ending.app)
	waiting.client.wait(t, linkResumed, 1)
	passByte(t, waiting.near, waiting.far)
	passByte(t, waiting.far, waiting.near)
	if waiting.client.count(linkDown) != 0 {
		t.Error("the detached session has ended")
	}
}

// A connection that is accepted while the link is down waits: it is served if the link is up in
// time, and else it is reset and logged.
func TestLinkWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, wait string
		returns    bool
	}{{"too long", "2s", false}, {"until it is back", "1m", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newApplication(t, machine(t))
			var path *testnet.Fault
			r := setup{targets: []string{a.addr}, client: []string{"--link-wait", c.wait}, through: func(server string) string {
				path = testnet.NewFault(t, server)
				return path.Addr()
			}}.start(t)
			path.Down()
			r.client.wait(t, linkLost, 1)
			start := time.Now()
			near := r.connect(t, a.addr)
			if !c.returns {
				wantReset(t, "the application", near)
				if waited := time.Since(start); waited < time.Second {
					t.Errorf("it is reset after %v already", waited)
				}
				r.client.wait(t, `msg="connection reset" forward=\S+ target=`+a.addr+` reason="the link to the server is down"`, 1)
				return
			}
			if _, err := near.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			r.client.wait(t, `msg="connect failed"`, 1)
			path.Up(t)
			far := a.accept(t)
			if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
				t.Errorf("data written during the wait: %v", err)
			}
			passByte(t, far, near)
		})
	}
}
