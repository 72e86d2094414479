package tunnel

import "time"

// A Path is what the kernel knows about a TCP connection's path and peer.
type Path struct {
	// Unacked says that data was sent which the peer's system has not acknowledged.
	Unacked bool
	// Unsent says that data waits because the peer's receive window is full.
	Unsent bool
	// SinceAck is the time since the peer's system last acknowledged anything.
	SinceAck time.Duration
	// Probes counts the window probes in a row that were not answered. The kernel sends them with growing
	// pauses, up to two minutes.
	Probes int
	// Gone says that the peer has reset the connection, or that the kernel has given it up. Data that the
	// peer sent before may still be unread.
	Gone bool
}

// Pending reports whether the peer's system has not yet received all data.
func (p Path) Pending() bool { return p.Unacked || p.Unsent }

// Alive reports whether the peer's system answers: it acknowledges sent data within the given time, or answers
// window probes. If nothing is pending it returns true, because there is nothing to answer.
func (p Path) Alive(within time.Duration) bool {
	if p.Unacked {
		return p.SinceAck < within
	}
	return !p.Unsent || p.Probes < 2
}
