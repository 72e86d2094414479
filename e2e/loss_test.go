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

// traffic is what goes on in a connection when it is lost.
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

// run keeps the traffic going until both ends of the connection have ended, which must be by a
// reset at each. It runs lose in the middle.
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
			// One reset is reported once: to the writer here, who is told so, and the reader then
			// finds nothing more.
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

// signalling says once that so many bytes have been read.
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

// What is lost in mid-transfer is reset at the application and at the backend, never ended well:
// a file that is cut short must not look complete.
func TestLossIsReset(t *testing.T) {
	for _, loss := range []struct {
		name string
		lose func(t *testing.T, r *rig)
		root bool
	}{
		{name: "server killed", lose: func(t *testing.T, r *rig) { r.server.kill(t) }},
		{name: "client killed", lose: func(t *testing.T, r *rig) { r.client.kill(t) }},
		{name: "link destroyed", lose: destroyLink, root: true},
	} {
		for _, f := range everyTraffic {
			t.Run(loss.name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				if loss.root {
					needRoot(t)
					need(t, "ss")
				}
				a := newApplication(t, machine(t))
				r := setup{targets: []string{a.addr}}.start(t)
				near, far := r.open(t, a)
				f.run(t, near, far, func() { loss.lose(t, r) })
			})
		}
	}
}

// destroyLink has the system reset the link's TCP connection, as a middlebox can.
func destroyLink(t *testing.T, r *rig) {
	_, port, _ := net.SplitHostPort(r.server.addr)
	if out := r.host.run(t, "", "ss", "-KHtn", "state", "established", "dport", "=", ":"+port); strings.Count(out, "\n") != 1 {
		t.Errorf("ss -K destroyed these connections, want one:\n%s", out)
	}
	r.client.wait(t, linkDown, 1)
	r.client.wait(t, linkUp, 2)
}

// A link that has gone silent, with nothing to tell it from an idle one but the silence, is given up
// by both ends within 45 s, and the client has a new one when the network is back.
func TestDeadLink(t *testing.T) {
	t.Parallel()
	a := newApplication(t, machine(t))
	var path *testnet.Fault
	r := setup{targets: []string{a.addr}, through: func(server string) string {
		path = testnet.NewFault(t, server)
		return path.Addr()
	}}.start(t)
	near, far := r.open(t, a)
	for _, conn := range []*net.TCPConn{near, far} {
		conn.SetDeadline(time.Now().Add(3 * time.Minute))
	}
	path.Stall(true)
	start := time.Now()
	const silence, slack = 45 * time.Second, 15 * time.Second
	r.client.waitWithin(t, silence+slack, linkDown+`.*not a byte from the peer`, 1)
	r.server.waitWithin(t, silence+slack-time.Since(start), `msg="session closed".*not a byte from the peer`, 1)
	wantReset(t, "the application", near)
	wantReset(t, "the backend", far)

	path.Stall(false)
	r.client.wait(t, linkUp, 2)
	r.open(t, a)
}

// A connection that comes while the link is down waits for it: in vain, and is then reset with a
// word in the log, or until the link is back, and is then served.
func TestLinkWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, wait string
		returns    bool
	}{{"in vain", "2s", false}, {"until it is back", "1m", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newApplication(t, machine(t))
			var path *testnet.Fault
			r := setup{targets: []string{a.addr}, client: []string{"--link-wait", c.wait}, through: func(server string) string {
				path = testnet.NewFault(t, server)
				return path.Addr()
			}}.start(t)
			path.Down()
			r.client.wait(t, linkDown, 1)
			start := time.Now()
			near := r.connect(t, a.addr)
			if !c.returns {
				wantReset(t, "the application", near)
				if waited := time.Since(start); waited < time.Second {
					t.Errorf("it is reset after %v already", waited)
				}
				r.client.wait(t, `msg="connection reset" target=`+a.addr+` reason="the link to the server is down"`, 1)
				return
			}
			if _, err := near.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			r.client.wait(t, `msg="cannot connect"`, 1)
			path.Up(t)
			far := a.accept(t)
			if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
				t.Errorf("what was written during the wait: %v", err)
			}
			passByte(t, far, near)
		})
	}
}
