//go:build linux

package main

import "time"

// A path is the network between the client and the server of a tunnel. The zero path is loopback.
type path struct {
	rate  float64       // bits per second in each direction; 0 means no limit
	rtt   time.Duration // round trip with empty queues
	depth time.Duration // queue before the bottleneck, as the time that a full one takes to drain
	loss  float64       // share of packets that are lost in each direction
	relay bool          // delay bytes of TCP connections instead of packets
	veth  bool          // a veth pair at the speed of the machine; the other fields are zero then
}

// The paths of the plan.
var (
	loopback   = path{}
	vethPath   = path{veth: true}
	longPath   = path{rate: 1e9, rtt: 100 * time.Millisecond, depth: 20 * time.Millisecond, relay: true}
	plainPath  = path{rtt: 100 * time.Millisecond}
	slowPath   = path{rate: 100e6, rtt: 20 * time.Millisecond, depth: time.Second}
	slowerPath = path{rate: 20e6, rtt: 50 * time.Millisecond, depth: time.Second}
	lossyPath  = path{rate: 100e6, rtt: 40 * time.Millisecond, depth: 100 * time.Millisecond, loss: 0.01}
)

// namespaces reports whether the path joins two network namespaces, which needs root.
func (p path) namespaces() bool { return p != loopback && !p.relay }

// emulated reports whether packets of the path pass through this program.
func (p path) emulated() bool { return p.namespaces() && !p.veth }
