package client

import (
	"context"
	"net"
	"slices"
	"time"
)

// sleptAfter is how far the wall clock may run ahead of the monotonic one
// between two looks before the machine must have slept.
const sleptAfter = 5 * time.Second

// watchNetwork kicks when this machine's addresses or routes change, or when it
// has been asleep. It polls, because that works alike on every system; a look costs a
// few system calls.
func (c *Client) watchNetwork(ctx context.Context) {
	ticker := time.NewTicker(c.cfg.WatchInterval)
	defer ticker.Stop()
	addrs := c.localAddrs()
	wall, awake := c.clocks()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		wallNow, awakeNow := c.clocks()
		slept := wallNow.Sub(wall) - (awakeNow - awake)
		wall, awake = wallNow, awakeNow
		current := c.localAddrs()
		if current == nil {
			current = addrs
		}
		switch {
		case slept > sleptAfter:
			c.log.Info("awake again", "after", slept.Round(time.Second))
		case !slices.Equal(current, addrs):
			c.log.Info("this machine's addresses or routes changed")
		default:
			continue
		}
		addrs = current
		c.Kick()
	}
}

var started = time.Now()

func clocks() (wall time.Time, awake time.Duration) {
	now := time.Now()
	return now.Round(0), now.Sub(started) // without and with the monotonic reading
}

// localAddrs are this machine's addresses, and those of them that it would use
// to reach the world, or nil if the system does not tell.
func localAddrs() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	return append(beyondLink(list), source("udp4", "192.0.2.1:9"), source("udp6", "[2001:db8::1]:9"))
}

// beyondLink are those addresses, sorted, that are of use beyond their own
// interface: the others come and go with each container and virtual machine.
func beyondLink(list []net.Addr) []string {
	var out []string
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsLinkLocalUnicast() {
			continue
		}
		out = append(out, a.String())
	}
	slices.Sort(out)
	return out
}

// source is the address that packets to an address outside would come from. The
// addresses asked about are for documentation (RFC 5737, RFC 3849), and
// nothing is sent to them.
func source(network, to string) string {
	c, err := net.Dial(network, to)
	if err != nil {
		return "no route"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
