//go:build !plainio

package tunnel

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawConn reads from and writes to a socket like its net.Conn, but by direct system calls, which Go's
// scheduler does not hear of.
//
// What: the sockets' net.Conns stay in use for waiting (the network poller, by way of
// syscall.RawConn), for deadlines and for closing. Only recvfrom(2) and sendto(2) are called by
// RawSyscall6 instead of by package syscall.
//
// Why: before a system call Go tells its scheduler that the thread may block. The first call after
// each wait then wakes the runtime's monitor thread, which looks every 20 µs from then on and takes
// the processor away from calls that move bulk data. Over a veth pair, without direct system calls, a
// tunnel takes 4 to 12 % more processor time per GiB and moves 3 to 7 % less (1 and 8 streams, both
// directions, CUBIC).
//
// Never on a path that can block: a thread in a call that the scheduler does not know of keeps its
// processor, and with it every goroutine that is queued there. MSG_DONTWAIT makes both calls return
// at once, whatever the socket's flags are.
//
// Superfluous when: package internal/poll makes its calls on non-blocking sockets without telling the
// scheduler, or the monitor thread no longer wakes for them.
//
// The switch is the build tag plainio: with it, and on other systems, sockets are read and written by
// their net.Conns and package unix. All tests have to pass both ways.
type rawConn struct {
	conn net.Conn
	raw  syscall.RawConn
	in   transfer // by Read
	out  transfer // by Write
}

// A transfer is one direction of a rawConn: the state of the Read or Write that is under way.
type transfer struct {
	try func(fd uintptr) (done bool) // read or write, bound once, so that no call allocates

	mu  sync.Mutex // held during a Read or Write
	p   []byte
	n   int
	err error
}

// readWriter returns the best way to read from and write to nc.
func readWriter(nc net.Conn) io.ReadWriter {
	var raw syscall.RawConn
	var err error
	switch c := nc.(type) { // a type that embeds one of these may read and write by other means
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
	c := &rawConn{conn: nc, raw: raw}
	c.in.try, c.out.try = c.in.read, c.out.write
	return c
}

// Read is that of net.Conn.
func (c *rawConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &c.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = p, 0, nil
	err := c.raw.Read(t.try)
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, socketError(c.conn, "read", os.NewSyscallError("read", t.err))
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

func (t *transfer) read(fd uintptr) (done bool) {
	t.n, t.err = readNow(fd, t.p)
	return t.err != unix.EAGAIN
}

// Write is that of net.Conn.
func (c *rawConn) Write(p []byte) (int, error) {
	t := &c.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = p, 0, nil
	err := c.raw.Write(t.try)
	t.p = nil
	if err == nil && t.err != nil {
		err = socketError(c.conn, "write", os.NewSyscallError("write", t.err))
	}
	return t.n, err
}

func (t *transfer) write(fd uintptr) (done bool) {
	for t.n < len(t.p) {
		n, err := writeNow(fd, t.p[t.n:])
		if err != nil {
			t.err = err
			return err != unix.EAGAIN
		}
		t.n, t.err = t.n+n, nil
	}
	return true
}

// readNow reads into p, which is not empty, without waiting: the error is EAGAIN when there is
// nothing to read. No bytes and no error are the end of the stream.
func readNow(fd uintptr, p []byte) (int, error) {
	n, err := callNow(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT)
	raceRead(fd, p[:n], err)
	return n, err
}

// writeNow writes what the socket takes of p without waiting.
func writeNow(fd uintptr, p []byte) (int, error) {
	raceWrite(p)
	return callNow(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// callNow makes recvfrom or sendto, which return at once, without telling Go's scheduler.
func callNow(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
