//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A rig is a server and a client with forwards to some targets.
type rig struct {
	host   *host
	pair   keyPair
	alice  account
	server *server
	client *client
	local  map[string]string // forward addresses, by target
}

// A setup configures a rig. Its zero value has no forward.
type setup struct {
	at      *host                      // where both ends run; nil: this machine
	targets []string                   // a forward to each
	allow   []string                   // what the server lets alice reach; nil: the targets
	through func(server string) string // returns the address to dial instead of the server's
	client  []string                   // more flags
	server  []string
}

func (s setup) start(t *testing.T) *rig {
	t.Helper()
	h := s.at
	if h == nil {
		h = machine(t)
	}
	r := &rig{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice"), local: map[string]string{}}
	allow := s.allow
	if allow == nil {
		allow = s.targets
	}
	users := writeFile(t, workDir(t), "users.toml", r.alice.users(allow...))
	r.server = h.server(t, append([]string{"--listen", "127.0.0.1:0", "--tls-cert", r.pair.cert, "--tls-key", r.pair.key,
		"--tunnel-path", tunnelPath, "--users", users}, s.server...)...)
	args := []string{"--proxy", "none", "--token-file", r.alice.tokenFile, "--ca", r.pair.ca}
	for _, target := range s.targets {
		args = append(args, "-L", "127.0.0.1:0:"+target)
	}
	server := r.server.addr
	if s.through != nil {
		server = s.through(server)
	}
	r.client = h.client(t, append(append(args, s.client...), "wss://"+server+tunnelPath)...)
	for _, target := range s.targets {
		r.local[target] = r.client.listens(t, logged(target))
	}
	return r
}

// logged returns a target of -L as it appears in the log.
func logged(target string) string {
	if strings.HasPrefix(target, "/") {
		return "unix:" + target
	}
	return target
}

// connect connects to the forward to target.
func (r *rig) connect(t *testing.T, target string) *net.TCPConn {
	t.Helper()
	conn, err := r.host.dial(r.local[target])
	if err != nil {
		t.Fatalf("connect to the forward to %s: %v", target, err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// open connects through the tunnel to an application and returns both ends. A byte has passed each
// way.
func (r *rig) open(t *testing.T, a *application) (near, far *net.TCPConn) {
	t.Helper()
	near = r.connect(t, a.addr)
	far = a.accept(t)
	passByte(t, near, far)
	passByte(t, far, near)
	return near, far
}

func passByte(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatalf("write a byte: %v", err)
	}
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		t.Fatalf("read a byte: %v", err)
	}
}

// An application listens behind the tunnel. The test reads and writes on its connections.
type application struct {
	addr  string
	conns chan *net.TCPConn
}

// newApplication listens on a free loopback port of h.
func newApplication(t *testing.T, h *host) *application {
	t.Helper()
	l := h.listen(t, "127.0.0.1:0")
	a := &application{addr: l.Addr().String(), conns: make(chan *net.TCPConn, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.conns <- conn.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		for {
			select {
			case conn := <-a.conns:
				conn.Close()
			case <-done:
				return
			}
		}
	})
	return a
}

// accept waits for the next connection and returns it.
func (a *application) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case conn := <-a.conns:
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	case <-time.After(patience):
		t.Fatal("no connection comes out of the tunnel")
		return nil
	}
}

// isReset reports whether err is how TCP reports a reset by the peer.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// wantReset reads until the connection ends, which must be by a reset.
func wantReset(t *testing.T, who string, conn *net.TCPConn) {
	t.Helper()
	n, err := io.Copy(io.Discard, conn)
	if err == nil {
		t.Errorf("%s reads a clean end after %d bytes, want a reset", who, n)
	} else if !isReset(err) {
		t.Errorf("%s reads %v after %d bytes, want a reset", who, err, n)
	}
}

// wantNoConnection connects to the forward to target, which must reset the connection.
func (r *rig) wantNoConnection(t *testing.T, target string) {
	t.Helper()
	conn, err := r.host.dial(r.local[target])
	switch {
	case err == nil:
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		wantReset(t, "the application", conn.(*net.TCPConn))
	case !isReset(err):
		// A reset may arrive during connect; anything else is a failure.
		t.Errorf("connect to the forward to %s: %v", target, err)
	}
}

// shortWait bounds events that take about a second, on a busy machine too.
const shortWait = 5 * time.Second

// noticesReset waits until the kernel reports a reset, without reading the data that is queued: an
// application that polls would notice it like this.
func noticesReset(t *testing.T, who string, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, shortWait, who+" notices a reset", func() error {
		var reset bool
		if err := raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}}
			n, err := unix.Poll(p, 0)
			reset = err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
		}); err != nil {
			return err
		}
		if !reset {
			return errors.New("the connection is as before")
		}
		return nil
	})
}

// fill writes until the connection accepts no more data because its peer does not read.
func fill(t *testing.T, conn *net.TCPConn) (written int64) {
	t.Helper()
	b := make([]byte, 256<<10)
	defer conn.SetWriteDeadline(time.Now().Add(patience))
	for {
		conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := conn.Write(b)
		written += int64(n)
		if errors.Is(err, syscall.EAGAIN) || errIsTimeout(err) {
			return written
		}
		if err != nil {
			t.Fatalf("fill the connection: %v", err)
		}
		if written > 1<<30 {
			t.Fatalf("%d bytes are accepted although nothing is read", written)
		}
	}
}

func errIsTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// resetWithUnreadData ends a connection as the kernel does for a process that exits with unread
// data.
func resetWithUnreadData(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	if err := conn.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}
