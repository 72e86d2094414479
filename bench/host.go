//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A host runs processes and opens sockets, either on the machine itself or in a network namespace. It
// is one operating system thread: namespaces belong to threads, and Pdeathsig ends a host's processes
// with the thread that started them, so that they cannot outlive this program.
type host struct {
	ip    string
	calls chan func()
	gone  chan struct{}

	namespace bool
}

// machine returns the host that is the machine itself.
func machine() *host {
	h, _ := newHost("127.0.0.1", nil) // fails only if it enters a namespace
	return h
}

// isolated returns a host in a new network namespace that has only loopback.
func isolated(ctx context.Context, ip string) (*host, error) {
	h, err := newHost(ip, func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return nil, fmt.Errorf("make a network namespace (are you root?): %w", err)
	}
	h.namespace = true
	if err := h.run(ctx, "ip", "link", "set", "lo", "up"); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func newHost(ip string, enter func() error) (*host, error) {
	h := &host{ip: ip, calls: make(chan func()), gone: make(chan struct{})}
	entered := make(chan error)
	go func() {
		defer close(h.gone)
		// Not unlocked: the thread ends with this goroutine, and the namespace with the thread.
		runtime.LockOSThread()
		var err error
		if enter != nil {
			err = enter()
		}
		entered <- err
		for call := range h.calls {
			call()
		}
	}()
	if err := <-entered; err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// close ends the host; its processes must have been stopped before.
func (h *host) close() {
	close(h.calls)
	<-h.gone
}

// do runs f in the host and waits for it. Calls are serialized: f must not block for long.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// dialTimeout is how long a local connection may take.
const dialTimeout = 10 * time.Second

// dial connects from the host to a numeric address.
func (h *host) dial(addr string) (conn net.Conn, err error) {
	if !h.namespace { // any thread will do, so calls need not be serialized
		return net.DialTimeout("tcp", addr, dialTimeout)
	}
	h.do(func() { conn, err = net.DialTimeout("tcp", addr, dialTimeout) })
	return conn, err
}

// listen listens on a free port of the host's address.
func (h *host) listen() (l net.Listener, err error) {
	h.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(h.ip, "0")) })
	return l, err
}

// freePort returns an unused address of the host, for a program that needs to be given its port.
func (h *host) freePort(ip string) (addr string, err error) {
	var l net.Listener
	h.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(ip, "0")) })
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// run runs a short command in the host.
func (h *host) run(ctx context.Context, argv ...string) error {
	path, err := lookPath(argv[0])
	if err != nil {
		return err
	}
	var out []byte
	h.do(func() { out, err = exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput() })
	if err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return nil
}

// write writes a file below /proc/sys/net, which belongs to the host's namespace.
func (h *host) write(name, value string) (err error) {
	h.do(func() { err = os.WriteFile(name, []byte(value), 0) })
	return err
}

// lookPath is exec.LookPath, and also searches where Debian installs daemons.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", errors.Join(exec.ErrNotFound, err)
}
