//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A wire joins two network namespaces by an emulated path: packets that one host sends into its TUN
// device come out of the device of the other.
type wire struct {
	up, down *bottleneck
	devices  []*os.File
	running  sync.WaitGroup
}

// mtu is that of Ethernet.
const mtu = 1500

// connectTUN makes the wire between two hosts, whose addresses must be in one /24 network.
func connectTUN(ctx context.Context, p path, client, server *host) (*wire, error) {
	w := &wire{up: newBottleneck(p), down: newBottleneck(p)}
	for _, h := range []*host{client, server} {
		device, err := tun(ctx, h)
		if err != nil {
			w.close()
			return nil, err
		}
		w.devices = append(w.devices, device)
	}
	w.carry(w.up, w.devices[0], w.devices[1])
	w.carry(w.down, w.devices[1], w.devices[0])
	return w, nil
}

// tun makes a TUN device in the host's namespace and gives it the host's address.
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
	parcels := make(chan parcel, 1<<16) // more packets than any queue of the plan holds
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
		for range parcels { // the device is closed: drain until the reader ends
		}
	})
}

// close removes the devices and waits for the goroutines.
func (w *wire) close() {
	for _, d := range w.devices {
		d.Close()
	}
	w.running.Wait()
}
