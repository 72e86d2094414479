//go:build linux

package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const standbyUnit = "adit-server-standby.service"

// standby restarts the server while 100 connections of a client transfer data; meanwhile a second
// server serves its socket. No byte is lost and no new connection refused.
func (m *installed) standby(t *testing.T) {
	const many = 100
	// Only a server that starts after this uses it.
	digest := m.certify(t)
	old, ends := m.show(t, serverUnit, "MainPID"), m.badEnds()
	stopVisits := m.visits(t, m.visitSite, m.visitTunnel)
	first := m.transfers(t, many)

	began := time.Now()
	m.run(t, "systemctl", "start", standbyUnit)
	m.run(t, "systemctl", "restart", "--no-block", serverUnit)
	m.awaitState(t, serverUnit, "deactivating")
	eventually(t, patience, "the client uses the second server", func() error {
		if !strings.Contains(m.journal(standbyUnit), "session opened") {
			return errors.New("it has not yet")
		}
		return nil
	})
	second := m.transfers(t, many)
	if state, now := m.show(t, serverUnit, "ActiveState"), m.show(t, serverUnit, "MainPID"); state != "deactivating" || now != old {
		t.Errorf("while %d connections are open the server is %s, process %s; it was %s", many, state, now, old)
	}
	first.finish(t)
	eventually(t, patience, "the server has restarted", func() error { return restarted(t, m.booted, serverUnit, old) })
	m.run(t, "systemctl", "stop", "--no-block", standbyUnit)
	m.awaitState(t, standbyUnit, "deactivating")
	m.passes(t)
	second.finish(t)
	m.awaitState(t, standbyUnit, "inactive")
	t.Logf("a restart with a second server took %v, with %d visits meanwhile", time.Since(began).Round(time.Millisecond), stopVisits())

	if result, status := m.show(t, standbyUnit, "Result"), m.show(t, standbyUnit, "ExecMainStatus"); result != "success" || status != "0" {
		t.Errorf("the second server ended with result %s, exit status %s", result, status)
	}
	if now := m.badEnds(); now != ends {
		t.Errorf("the server's exit status was not 0")
	}
	if got, err := m.servedCertificate(); err != nil || got != digest {
		t.Errorf("the new server does not use the new certificate: %v", err)
	}
}

// standbyCut cuts the connection at the two moments of such a restart at which the session cannot
// be resumed: when the other server answers, and while its own server drains.
func (m *installed) standbyCut(t *testing.T) {
	m.passes(t)
	conn := m.established(t)
	m.run(t, "systemctl", "start", standbyUnit)
	m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", serverUnit)
	m.cutLinks(t)
	wantReset(t, "a connection whose session the other server does not know", conn)
	m.passes(t)
	m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=CONT", serverUnit)

	conn = m.established(t)
	m.run(t, "systemctl", "stop", "--no-block", standbyUnit)
	m.awaitState(t, standbyUnit, "deactivating")
	// The client has a new session.
	m.passes(t)
	m.cutLinks(t)
	wantReset(t, "a connection whose server drains", conn)
	m.awaitState(t, standbyUnit, "inactive")
	m.tunnelIsBack(t)
}

// abrupt ends the server without a drain, by a second signal and by SIGKILL.
func (m *installed) abrupt(t *testing.T) {
	m.passes(t)
	conn := m.established(t)
	m.run(t, "systemctl", "stop", "--no-block", socketUnit, serverUnit)
	m.awaitState(t, serverUnit, "deactivating")
	time.Sleep(1200 * time.Millisecond) // earlier it would be the same request
	m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=TERM", serverUnit)
	wantReset(t, "a connection through a server that got a second signal", conn)
	m.awaitState(t, serverUnit, "failed")
	if status := m.show(t, serverUnit, "ExecMainStatus"); status != "1" {
		t.Errorf("a server that got a second signal has exit status %s, want 1", status)
	}
	if !strings.Contains(m.journal(serverUnit), "ended by a second signal") {
		t.Error("the log does not say why")
	}
	m.run(t, "systemctl", "start", socketUnit, serverUnit)
	m.tunnelIsBack(t)

	conn = m.established(t)
	m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", serverUnit)
	wantReset(t, "a connection through a server that was killed", conn)
	m.tunnelIsBack(t)
}

// passes checks that a new connection through the tunnel works at once.
func (m *installed) passes(t *testing.T) {
	t.Helper()
	if err := echoes(m.host, unitsLocal, 1<<10); err != nil {
		t.Fatalf("a new connection: %v", err)
	}
}

// established returns a connection through the tunnel that has carried a byte each way.
func (m *installed) established(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := m.dial(unitsLocal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// cutLinks makes the kernel reset every connection to the server.
func (m *installed) cutLinks(t *testing.T) {
	t.Helper()
	if out := m.run(t, "ss", "-KHtn", "state", "established", "dport", "=", ":443"); !strings.Contains(out, ":443") {
		t.Fatalf("no link was cut: %q", out)
	}
}

func (m *installed) awaitState(t *testing.T, unit, want string) {
	t.Helper()
	eventually(t, patience, unit+" is "+want, func() error {
		if state := m.show(t, unit, "ActiveState"); state != want {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
}

// badEnds counts how often the server exited uncleanly.
func (m *installed) badEnds() int {
	return strings.Count(m.journal(serverUnit), "Main process exited")
}

// transfers are connections to the echo that transfer data until they are told to finish.
type transfers struct {
	ending chan struct{}
	ended  chan error
	n      int
}

// transfers starts n of them and returns when each has transferred data.
func (m *installed) transfers(t *testing.T, n int) *transfers {
	t.Helper()
	x := &transfers{ending: make(chan struct{}), ended: make(chan error, n), n: n}
	t.Cleanup(sync.OnceFunc(func() {
		select {
		case <-x.ending:
		default:
			close(x.ending)
		}
	}))
	began := make(chan struct{}, n)
	for i := range n {
		conn, err := m.dial(unitsLocal)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		go func() { x.ended <- transfer(conn.(*net.TCPConn), uint64(i), began, x.ending) }()
	}
	for range n {
		select {
		case <-began:
		case err := <-x.ended:
			t.Fatalf("a transfer: %v", err)
		}
	}
	return x
}

// finish checks that all data has returned.
func (x *transfers) finish(t *testing.T) {
	t.Helper()
	close(x.ending)
	for range x.n {
		if err := <-x.ended; err != nil {
			t.Errorf("a transfer: %v", err)
		}
	}
}

// transfer sends noise in small pieces and compares what returns.
func transfer(conn *net.TCPConn, seed uint64, began chan<- struct{}, ending <-chan struct{}) error {
	const piece = 8 << 10
	defer conn.Close()
	back := make(chan string, 1)
	first := sync.OnceFunc(func() { began <- struct{}{} })
	go func() { back <- digestOf(&firstRead{conn, first}) }()
	noise, sent := newNoise(seed, 1<<40), sha256.New()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for more := true; more; {
		if _, err := io.CopyN(io.MultiWriter(conn, sent), noise, piece); err != nil {
			return err
		}
		select {
		case <-ending:
			more = false
		case <-pace.C:
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if got, want := <-back, hexSum(sent); got != want {
		return fmt.Errorf("what came back has the digest %s, want %s", got, want)
	}
	return nil
}

// firstRead signals the first bytes.
type firstRead struct {
	io.Reader
	tell func()
}

func (r *firstRead) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.tell()
	}
	return n, err
}

// visits makes new connections again and again, each of which must be served. stop ends that and
// returns how many there were.
func (m *installed) visits(t *testing.T, visitors ...func() error) (stop func() int) {
	done := make(chan struct{})
	var running sync.WaitGroup
	var count atomic.Int64
	for _, visit := range visitors {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				if err := visit(); err != nil {
					t.Errorf("after %d visits: %v", count.Load(), err)
					return
				}
				count.Add(1)
			}
		})
	}
	stop = sync.OnceValue(func() int {
		close(done)
		running.Wait()
		return int(count.Load())
	})
	t.Cleanup(func() { stop() })
	return stop
}

func (m *installed) visitTunnel() error {
	if err := echoes(m.host, unitsLocal, 1); err != nil {
		return fmt.Errorf("through the tunnel: %w", err)
	}
	return nil
}

// visitSite requests a page.
func (m *installed) visitSite() error {
	conn, err := m.served()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("the site's answer: %w", err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		return fmt.Errorf("the site answers %.40q", answer)
	}
	return nil
}

// served returns a TLS connection to the server.
func (m *installed) served() (*tls.Conn, error) {
	raw, err := m.dialWithin(patience, unitsPort)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, &tls.Config{RootCAs: m.ca.Pool(), ServerName: "127.0.0.1"})
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

// servedCertificate returns the digest of the server's certificate.
func (m *installed) servedCertificate() (digest [sha256.Size]byte, err error) {
	conn, err := m.served()
	if err != nil {
		return digest, err
	}
	defer conn.Close()
	return sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw), nil
}
