//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

// withLimit is a command line that runs argv with a limit of file descriptors.
func withLimit(limit int, argv ...string) []string {
	return []string{"bash", "-c", fmt.Sprintf("ulimit -n %d && exec %s", limit, strings.Join(argv, " "))}
}

// shortOfDescriptors is the line of either end, with the cure.
const shortOfDescriptors = `level=WARN msg="file descriptors short" limit=\d+ hint=".*ulimit -n.*LimitNOFILE`

// At the limit of descriptors each end keeps some for the link: a connection that is lost comes back,
// although more applications wait for each descriptor that becomes free.
func TestLostLinkReturnsAtTheDescriptorLimit(t *testing.T) {
	t.Parallel()
	for _, limited := range []string{"client", "server"} {
		t.Run(limited, func(t *testing.T) {
			t.Parallel()
			h := machine(t)
			u := &localTunnel{host: h, pair: newKeyPair(t, "localhost", "127.0.0.1"), alice: newAccount(t, h, "alice")}
			backend := testnet.Echo(t)
			server := []string{aditBin, "server", "--listen", "127.0.0.1:0", "--tls-cert", u.pair.cert, "--tls-key", u.pair.key,
				"--tunnel-path", tunnelPath, "--users", writeFile(t, workDir(t), "users.toml", u.alice.users(backend))}
			if limited == "server" {
				server = withLimit(128, server...)
			}
			s := h.start(t, "adit server", spec{argv: server})
			cleanStop(t, s)
			fault := testnet.NewFault(t, s.wait(t, `msg=listening addr=(\S+)`, 1)[1])
			argv := []string{aditBin, "client", "--proxy", "none", "--token-file", u.alice.tokenFile, "--ca", u.pair.ca,
				"-L", "127.0.0.1:0:" + backend, "wss://" + fault.Addr() + tunnelPath}
			if limited == "client" {
				argv = withLimit(128, argv...)
			}
			c := &client{h.start(t, "adit client", spec{argv: argv})}
			cleanStop(t, c.process)
			c.wait(t, linkUp, 1)
			forward := c.listens(t, backend)

			var conns []net.Conn
			defer func() {
				for _, conn := range conns {
					conn.Close()
				}
			}()
			for range 300 {
				conn, err := h.dial(forward)
				if isReset(err) {
					continue // the server refuses the stream
				}
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
			}
			first := conns[0]
			first.SetDeadline(time.Now().Add(patience))
			echo := func() {
				t.Helper()
				if _, err := io.WriteString(first, "x"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			echo()
			if limited == "client" {
				c.wait(t, shortOfDescriptors, 1)
			} else {
				s.wait(t, shortOfDescriptors, 1)
			}
			for n := range 3 {
				fault.Cut()
				c.wait(t, linkResumed, n+1)
				echo()
			}
			if n := c.count(shortOfDescriptors) + s.count(shortOfDescriptors); n != 1 {
				t.Errorf("%d lines within a minute", n)
			}
			// New connections are served when descriptors are free again.
			for _, conn := range conns[1:] {
				conn.Close()
			}
			conns = conns[:1]
			eventually(t, patience, "a new connection is served", func() error {
				conn, err := h.dial(forward)
				if err != nil {
					return err
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				if _, err := io.WriteString(conn, "x"); err != nil {
					return err
				}
				_, err = io.ReadFull(conn, make([]byte, 1))
				return err
			})
			echo()
		})
	}
}
