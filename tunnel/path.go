package tunnel

import "time"

// Path is what TCP knows of the way to a peer, beyond what the peer's program
// says.
type Path struct {
	// Unacked: data is on its way that the peer's system has not acknowledged.
	Unacked bool
	// Unsent: there is data that the peer's system has no room for.
	Unsent bool
	// SinceAck is how long ago it last acknowledged anything.
	SinceAck time.Duration
	// Probes is how many times in a row it was asked for room in vain. It is
	// asked ever more seldom, up to every two minutes.
	Probes int
	// Gone: the peer has reset the connection, or TCP has given it up. What
	// the peer sent before may still be unread.
	Gone bool
}

// Pending reports whether the peer's system has not yet got all we sent.
func (p Path) Pending() bool { return p.Unacked || p.Unsent }

// Alive reports whether the peer's system still seems to be there: it
// acknowledges what is on its way, within the time given, or answers when it
// is asked for room. If nothing is pending, that cannot be told, and it is.
func (p Path) Alive(within time.Duration) bool {
	if p.Unacked {
		return p.SinceAck < within
	}
	return !p.Unsent || p.Probes < 2
}
