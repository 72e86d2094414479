package tunnel

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawConn reads from and writes to a socket like its net.Conn, but by system
// calls that Go's scheduler does not hear of. Package net's sockets do not block
// in one, so there is nothing to hear; but the scheduler would wake its monitor
// thread for the first call after each wait, and take the processor away from a
// call that moves many bytes (docs/performance.md).
type rawConn struct {
	conn net.Conn
	raw  syscall.RawConn
	in   transfer
	out  transfer
}

// transfer is a Read or a Write that is going on, for which the functions that
// package net calls are bound once.
type transfer struct {
	mu    sync.Mutex
	p     []byte
	n     int
	err   error
	flags int // of writing
	try   func(fd uintptr) bool
	waits func() // of reading: called before each wait; may be nil
}

// readWriter gives the best way to read from and write to nc.
func readWriter(nc net.Conn) io.ReadWriter {
	var raw syscall.RawConn
	var err error
	switch c := nc.(type) { // not what embeds one of them
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return nc
	}
	if err != nil {
		return nc
	}
	d := &rawConn{conn: nc, raw: raw}
	d.in.try, d.out.try = d.in.read, d.out.write
	return d
}

// Read is that of net.Conn.
func (d *rawConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &d.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = p, 0, nil
	err := d.raw.Read(t.try)
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, socketError(d.conn, "read", os.NewSyscallError("read", t.err))
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

func (t *transfer) read(fd uintptr) (done bool) {
	t.n, t.err = readNow(fd, t.p)
	if t.err != unix.EAGAIN {
		return true
	}
	if t.waits != nil {
		t.waits()
	}
	return false
}

// onWait has f called whenever Read is about to wait, by who has called Read.
func (d *rawConn) onWait(f func()) { d.in.waits = f }

// Write is that of net.Conn.
func (d *rawConn) Write(p []byte) (int, error) { return d.write(p, 0) }

// WriteMore is Write for what is not to leave before more is written.
func (d *rawConn) WriteMore(p []byte) (int, error) { return d.write(p, unix.MSG_MORE) }

func (d *rawConn) write(p []byte, flags int) (int, error) {
	t := &d.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err, t.flags = p, 0, nil, flags
	err := d.raw.Write(t.try)
	t.p = nil
	if err == nil && t.err != nil {
		err = socketError(d.conn, "write", os.NewSyscallError("write", t.err))
	}
	return t.n, err
}

func (t *transfer) write(fd uintptr) (done bool) {
	for t.n < len(t.p) {
		n, err := writeNow(fd, t.p[t.n:], t.flags)
		if err != nil {
			t.err = err
			return err != unix.EAGAIN
		}
		t.n, t.err = t.n+n, nil
	}
	return true
}
