package client_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel/dial"
)

func TestNew(t *testing.T) {
	d := &dial.Options{}
	for name, cfg := range map[string]client.Config{
		"no server":       {Dial: d},
		"no dial options": {Servers: []string{"wss://gw.test"}},
		"no target":       {Servers: []string{"wss://gw.test"}, Dial: d, Forwards: []client.Forward{{Network: "tcp", Address: "127.0.0.1:0"}}},
		"bad target":      {Servers: []string{"wss://gw.test"}, Dial: d, Forwards: []client.Forward{{Network: "tcp", Address: "127.0.0.1:0", Target: tcp("a\nb:1")}}},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := client.New(client.Config{Servers: []string{"wss://gw.test"}, Dial: d}); err != nil || d.Conn.LatestPongOnly {
		t.Errorf("%v; New changed the caller's dialer: %v", err, d.Conn.LatestPongOnly)
	}
}

func TestListenAllOrNone(t *testing.T) {
	taken := testnet.Listen(t)
	given := testnet.Listen(t)
	sock := filepath.Join(t.TempDir(), "a.sock")
	forward := func(network, address string) client.Forward {
		return client.Forward{Network: network, Address: address, Target: tcp("127.0.0.1:1")}
	}
	withListener := forward("", "")
	withListener.Listener = given
	cfg := client.Config{Servers: []string{"wss://127.0.0.1:1"}, Dial: &dial.Options{},
		Forwards: []client.Forward{forward("unix", sock), withListener, forward("tcp", "127.0.0.1:0"), forward("tcp", taken.Addr().String())}}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Listen()
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "forward to 127.0.0.1:1") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another forward left its socket: %v", err)
	}
	if x, err := net.Dial("tcp", given.Addr().String()); err != nil {
		t.Errorf("Listen closed the given listener: %v", err)
	} else {
		x.Close()
	}
	// The same client can listen once the port is free.
	taken.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Addrs()); n != 4 {
		t.Errorf("%d addresses", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
	for _, a := range c.Addrs() {
		if x, err := net.Dial(a.Network(), a.String()); err == nil {
			x.Close()
			t.Errorf("%s is open after Run", a)
		}
	}
	// Run that cannot listen leaves no listener open either.
	taken2 := testnet.Listen(t)
	withListener.Listener = testnet.Listen(t)
	cfg.Forwards = []client.Forward{withListener, forward("tcp", taken2.Addr().String())}
	if c, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run succeeded without a listener")
	}
	if x, err := net.Dial("tcp", withListener.Listener.Addr().String()); err == nil {
		x.Close()
		t.Error("the given listener stays open after Run")
	}
}

func TestUnixListener(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	dir := t.TempDir()
	cfg := func(name string) client.Config {
		c := g.clientConfig()
		c.Forwards = []client.Forward{{Network: "unix", Address: filepath.Join(dir, name), Target: tcp(testnet.Echo(t))}}
		return c
	}
	abandoned := filepath.Join(dir, "abandoned")
	old, err := net.Listen("unix", abandoned)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	r := run(t, cfg("abandoned"))
	info, err := os.Stat(abandoned)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	mustEcho(t, r.dial(t, 0))
	// The socket is in use now.
	second, err := client.New(cfg("abandoned"))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket in use is replaced: %v", err)
	}
	mustEcho(t, r.dial(t, 0))
	r.cancel()
	r.result(t)
	if _, err := os.Stat(abandoned); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket remains: %v", err)
	}
	// Files that are not sockets stay.
	for _, name := range []string{"file", "link"} {
		path := filepath.Join(dir, name)
		if name == "file" {
			err = os.WriteFile(path, []byte("precious"), 0o644)
		} else {
			err = os.Symlink(filepath.Join(dir, "file"), path)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(cfg(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Listen(); err == nil {
			t.Errorf("%s is replaced", name)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("%s: %q", name, b)
		}
	}
}
