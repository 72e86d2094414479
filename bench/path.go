//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A path is what lies between the two ends of a tunnel. The zero path is loopback.
type path struct {
	rate  float64       // bits a second each way, 0 for no limit
	rtt   time.Duration // there and back, with nothing queued
	depth time.Duration // of the queue before the bottleneck: how long a full one takes to leave
	relay bool          // a relay of bytes between TCP connections instead of one of packets
	veth  bool          // a veth pair, at the speed of the machine; the rest is zero then
}

// namespaces says whether the path lies between network namespaces, which need root.
func (p path) namespaces() bool { return p != (path{}) && !p.relay }

// A bottleneck is one direction of a path. It says when what arrives now comes out at the other
// end; whoever asked does the waiting.
type bottleneck struct {
	path
	passed atomic.Int64 // bytes that have come out

	mu   sync.Mutex
	free time.Time // when the last of what has arrived has left the queue
}

// arrive queues n bytes and returns when they come out, or false if the queue is full.
func (b *bottleneck) arrive(n int) (due time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.free.Before(now) {
		b.free = now
	}
	if b.rate > 0 {
		if b.free.Sub(now) > b.depth {
			return time.Time{}, false
		}
		b.free = b.free.Add(time.Duration(float64(n) * 8 / b.rate * 1e9))
	}
	return b.free.Add(b.rtt / 2), true
}

// backlog returns how long the queue takes to leave.
func (b *bottleneck) backlog() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.free), 0)
}

// A parcel is bytes on their way.
type parcel struct {
	data []byte
	due  time.Time
}

// deliver writes parcels when they are due, until there are no more or one cannot be written.
func (b *bottleneck) deliver(w io.Writer, parcels <-chan parcel) error {
	// A thread of its own sleeps more exactly than the scheduler of goroutines.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for p := range parcels {
		if d := time.Until(p.due); d > 0 {
			ts := unix.NsecToTimespec(int64(d))
			for unix.Nanosleep(&ts, &ts) == unix.EINTR {
			}
		}
		if _, err := w.Write(p.data); err != nil {
			return err
		}
		b.passed.Add(int64(len(p.data)))
	}
	return nil
}

// A wire joins two hosts with network namespaces by a path: packets that one sends into its TUN
// device come out of the other's.
type wire struct {
	fromNear, fromFar *bottleneck
	devices           []*os.File
	running           sync.WaitGroup
}

// mtu is of an ordinary network.
const mtu = 1500

// connect makes the wire between two hosts, which must have addresses of one network.
func connect(ctx context.Context, p path, near, far *host) (*wire, error) {
	w := &wire{fromNear: &bottleneck{path: p}, fromFar: &bottleneck{path: p}}
	for _, h := range []*host{near, far} {
		device, err := tun(ctx, h)
		if err != nil {
			w.close()
			return nil, err
		}
		w.devices = append(w.devices, device)
	}
	w.carry(w.fromNear, w.devices[0], w.devices[1])
	w.carry(w.fromFar, w.devices[1], w.devices[0])
	return w, nil
}

// tun makes the host's device and gives it the host's address.
func tun(ctx context.Context, h *host) (*os.File, error) {
	var (
		fd  int
		err error
	)
	h.do(func() {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		var req *unix.Ifreq
		if req, err = unix.NewIfreq("tun0"); err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	device := os.NewFile(uintptr(fd), "/dev/net/tun")
	for _, argv := range [][]string{
		{"ip", "addr", "add", h.ip + "/24", "dev", "tun0"},
		{"ip", "link", "set", "tun0", "mtu", fmt.Sprint(mtu), "txqueuelen", "10000", "up"},
	} {
		if err := h.run(ctx, argv...); err != nil {
			device.Close()
			return nil, err
		}
	}
	return device, nil
}

func (w *wire) carry(b *bottleneck, from, to *os.File) {
	parcels := make(chan parcel, 1<<16) // more than fits into any queue of the plan
	w.running.Go(func() {
		defer close(parcels)
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if due, ok := b.arrive(n); ok {
				parcels <- parcel{append([]byte(nil), buf[:n]...), due}
			}
		}
	})
	w.running.Go(func() {
		b.deliver(to, parcels)
		for range parcels { // the device is closed: let the reader end
		}
	})
}

// close takes the devices away and waits for what is under way.
func (w *wire) close() {
	for _, d := range w.devices {
		d.Close()
	}
	w.running.Wait()
}

// A relay is a path for the bytes of TCP connections: it shows what delay does to a tunnel on a
// path where TCP itself is not in the way.
type relay struct {
	listener net.Listener
	to       string
	there    *bottleneck
	back     *bottleneck
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	ended bool
}

// newRelay listens at the host and connects onwards to an address.
func newRelay(h *host, p path, to string) (*relay, error) {
	l, err := h.listen()
	if err != nil {
		return nil, fmt.Errorf("listen for the delayed path: %w", err)
	}
	r := &relay{listener: l, to: to, there: &bottleneck{path: p}, back: &bottleneck{path: p}}
	r.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.DialTimeout("tcp", to, dialTimeout)
			if err != nil {
				in.Close()
				continue
			}
			if !r.own(in, out) {
				return
			}
			r.carry(r.there, in, out)
			r.carry(r.back, out, in)
		}
	})
	return r, nil
}

// own has close end the connections, or ends them at once if it has already begun.
func (r *relay) own(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	r.conns = append(r.conns, conns...)
	return true
}

func (r *relay) carry(b *bottleneck, from, to net.Conn) {
	parcels := make(chan parcel, 1<<10)
	r.running.Go(func() {
		defer close(parcels)
		buf := make([]byte, 64<<10)
		for {
			// TCP is told to wait by not being read.
			if wait := b.backlog() - b.depth; wait > 0 {
				time.Sleep(wait)
			}
			n, err := from.Read(buf)
			if n > 0 {
				for {
					due, ok := b.arrive(n)
					if ok {
						parcels <- parcel{append([]byte(nil), buf[:n]...), due}
						break
					}
					time.Sleep(time.Millisecond) // another connection was faster
				}
			}
			if err != nil {
				return
			}
		}
	})
	r.running.Go(func() {
		if b.deliver(to, parcels) != nil {
			from.Close()
			for range parcels {
			}
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	})
}

func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
