package tunnel

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A localConn is a TCP connection that does not leave the machine. What
// package net does for it costs more than the rest of a short one: each of its
// system calls may wake the monitor thread of Go's scheduler (see direct). This is
// as much of it as a relay needs, by calls that do not.
type localConn struct {
	direct // reads and writes
	file   *os.File
	remote netip.AddrPort
}

// newLocalConn takes over fd, a socket that does not block, whose peer is remote.
func newLocalConn(fd uintptr, remote netip.AddrPort) (*localConn, error) {
	c := &localConn{file: os.NewFile(fd, ""), remote: remote}
	raw, err := c.file.SyscallConn()
	if err != nil {
		c.file.Close()
		return nil, err
	}
	c.direct.use(c, localRaw{c, raw})
	return c, nil
}

func (c *localConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
func (c *localConn) RemoteAddr() net.Addr                  { return net.TCPAddrFromAddrPort(c.remote) }

// LocalAddr asks the system, which knows nothing of a closed connection.
func (c *localConn) LocalAddr() net.Addr {
	var own netip.AddrPort
	_ = c.raw.Control(func(fd uintptr) { own = ownAddr(fd) })
	return net.TCPAddrFromAddrPort(own)
}

func (c *localConn) Close() error { return c.failed("close", c.file.Close()) }

func (c *localConn) SetDeadline(t time.Time) error { return c.failed("set", c.file.SetDeadline(t)) }
func (c *localConn) SetReadDeadline(t time.Time) error {
	return c.failed("set", c.file.SetReadDeadline(t))
}
func (c *localConn) SetWriteDeadline(t time.Time) error {
	return c.failed("set", c.file.SetWriteDeadline(t))
}

// SetLinger is that of net.TCPConn.
func (c *localConn) SetLinger(seconds int) error {
	return c.control("set", func(fd uintptr) error { return lingerNow(fd, seconds) })
}

// CloseWrite is that of net.TCPConn.
func (c *localConn) CloseWrite() error { return c.control("close", shutdownNow) }

func (c *localConn) control(op string, f func(fd uintptr) error) (err error) {
	if e := c.raw.Control(func(fd uintptr) { err = f(fd) }); e != nil {
		return e
	}
	return c.failed(op, err)
}

// failed gives the error of an operation the form that package net gives it. What
// is neither the system's error nor a deadline's means that the connection is
// closed here.
func (c *localConn) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: err}
}

// localRaw is that of package os, with the errors of package net.
type localRaw struct {
	conn *localConn
	raw  syscall.RawConn
}

func (r localRaw) Control(f func(fd uintptr)) error {
	return r.conn.failed("control", r.raw.Control(f))
}
func (r localRaw) Read(f func(fd uintptr) (done bool)) error {
	return r.conn.failed("read", r.raw.Read(f))
}
func (r localRaw) Write(f func(fd uintptr) (done bool)) error {
	return r.conn.failed("write", r.raw.Write(f))
}

// LocalListener takes over ln. Where its connections cannot leave the machine, they
// cost less to accept and to use than those of package net.
func LocalListener(ln net.Listener) net.Listener {
	t, ok := ln.(*net.TCPListener)
	if !ok || !t.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return ln
	}
	file, err := t.File()
	if err != nil {
		return ln
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = noDelayNow(fd) })
	}
	if err != nil {
		file.Close()
		return ln
	}
	t.Close()
	return &localListener{file, raw, t.Addr()}
}

type localListener struct {
	file *os.File
	raw  syscall.RawConn
	addr net.Addr
}

func (l *localListener) Addr() net.Addr { return l.addr }
func (l *localListener) Close() error   { return l.file.Close() }

func (l *localListener) Accept() (net.Conn, error) {
	var fd uintptr
	var peer netip.AddrPort
	var failure error
	err := l.raw.Read(func(listener uintptr) (done bool) {
		fd, peer, failure = acceptNow(listener)
		return !errors.Is(failure, unix.EAGAIN)
	})
	if err != nil {
		failure = net.ErrClosed
	}
	if failure != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: failure}
	}
	return asConn(newLocalConn(fd, peer))
}

// asConn keeps a nil pointer from becoming a connection.
func asConn(c *localConn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DialLocal connects to address, of this machine's loopback interface, for less
// than d.DialContext does. Of d, only the control functions count.
func DialLocal(ctx context.Context, d *net.Dialer, address netip.AddrPort) (net.Conn, error) {
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	c, err := dialLocal(ctx, d, address)
	for range 2 {
		if err == errSelf {
			c, err = dialLocal(ctx, d, address)
		}
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(address), Err: err}
	}
	return c, nil
}

// errSelf says that nobody listens at a port which the system then chose for our
// own end, so that the connection led to itself.
var errSelf error = os.NewSyscallError("connect", unix.ECONNREFUSED)

func dialLocal(ctx context.Context, d *net.Dialer, address netip.AddrPort) (*localConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fd, err := socketNow(address.Addr())
	if err != nil {
		return nil, err
	}
	if err = prepare(ctx, d, fd, address); err == nil {
		err = connectNow(fd, address)
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(int(fd))
		return nil, err
	}
	c, failure := newLocalConn(fd, address)
	if failure != nil {
		return nil, failure
	}
	if err != nil {
		err = c.awaitConnect(ctx)
	}
	if err == nil && c.LocalAddr().(*net.TCPAddr).AddrPort() == address {
		err = errSelf
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// prepare does with a socket what is done before it connects.
func prepare(ctx context.Context, d *net.Dialer, fd uintptr, address netip.AddrPort) error {
	network := "tcp4"
	if address.Addr().Is6() {
		network = "tcp6"
	}
	switch {
	case d.ControlContext != nil:
		if err := d.ControlContext(ctx, network, address.String(), unconnected(fd)); err != nil {
			return err
		}
	case d.Control != nil:
		if err := d.Control(network, address.String(), unconnected(fd)); err != nil {
			return err
		}
	}
	return noDelayNow(fd)
}

// awaitConnect waits until the socket is connected.
func (c *localConn) awaitConnect(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	var failure error
	err := c.raw.Write(func(fd uintptr) (done bool) {
		failure = connectResult(fd)
		return failure != unix.EINPROGRESS
	})
	if !stop() {
		return ctx.Err()
	}
	return cmp.Or(err, failure)
}

// unconnected is a socket without a connection.
type unconnected uintptr

func (u unconnected) Control(f func(fd uintptr)) error { f(uintptr(u)); return nil }
func (unconnected) Read(func(uintptr) bool) error      { return unix.ENOTCONN }
func (unconnected) Write(func(uintptr) bool) error     { return unix.ENOTCONN }
