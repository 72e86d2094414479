package client

import "time"

// SetNetwork replaces what the client sees of its machine.
func (c *Client) SetNetwork(addrs func() []string, clocks func() (time.Time, time.Duration)) {
	c.localAddrs, c.clocks = addrs, clocks
}

// Jitter is jitter, and BeyondLink beyondLink.
var (
	Jitter     = jitter
	BeyondLink = beyondLink
)
