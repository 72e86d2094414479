//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"adit/internal/testnet"
)

// A localTunnel is a server and a client on loopback, for tests that need neither network
// namespaces nor root.
type localTunnel struct {
	host    *host
	pair    keyPair
	alice   account
	server  *server
	client  *client
	forward string // the address of the forward
}

// newLocalTunnel starts both, with one forward to backend.
func newLocalTunnel(t *testing.T, backend string) *localTunnel {
	t.Helper()
	h := machine(t)
	u := &localTunnel{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice")}
	u.server = u.serve(t, "127.0.0.1:0", backend)
	u.client = h.client(t, "--token-file", u.alice.tokenFile, "--ca", u.pair.ca,
		"-L", "127.0.0.1:0:"+backend, "wss://"+u.server.addr+tunnelPath)
	u.forward = u.client.listens(t, backend)
	return u
}

// serve starts a server on which alice may reach backend.
func (u *localTunnel) serve(t *testing.T, listen, backend string) *server {
	t.Helper()
	return u.host.server(t, "--listen", listen, "--tls-cert", u.pair.cert, "--tls-key", u.pair.key, "--tunnel-path", tunnelPath,
		"--users", writeFile(t, workDir(t), "users.toml", u.alice.users(backend)))
}

// dial connects to the forward.
func (u *localTunnel) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := u.host.dial(u.forward)
	if err != nil {
		t.Fatalf("connect to the forward: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// expectEcho sends a few bytes and a half-close to an echo and reads both back.
func expectEcho(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	const text = "there and back"
	if _, err := fmt.Fprint(conn, text); err != nil {
		t.Fatalf("write: %v", err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatalf("half-close: %v", err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q and a clean end", got, err, text)
	}
}

// Both ends exit cleanly on SIGTERM: the client while a connection is open, then the server.
func TestCleanStop(t *testing.T) {
	u := newLocalTunnel(t, testnet.Echo(t))
	expectEcho(t, u.dial(t))
	open := u.dial(t)
	if _, err := open.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Fatalf("before the stop: %v", err)
	}
	u.client.stop(t)
	if n, err := open.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a connection cut by the client's stop reads %d bytes, %v; want a reset", n, err)
	}
	u.server.stop(t)
}

// A client reconnects to a server that restarts at the same address.
func TestServerRestart(t *testing.T) {
	backend := testnet.Echo(t)
	u := newLocalTunnel(t, backend)
	expectEcho(t, u.dial(t))
	u.server.stop(t)
	u.client.wait(t, linkDown, 1)
	u.serve(t, u.server.addr, backend)
	// If there is no link yet, the connection waits for it.
	expectEcho(t, u.dial(t))
	u.client.wait(t, linkUp, 2)
}
