package client

import "time"

// SetNetwork replaces what the network watcher sees of the machine.
func (c *Client) SetNetwork(addrs func() []string, clocks func() (time.Time, time.Duration)) {
	w := c.connector.network
	w.addrs, w.clocks = addrs, clocks
}

var (
	Jitter           = jitter
	WithoutLinkLocal = withoutLinkLocal
)
