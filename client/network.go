package client

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"time"
)

// sleepThreshold is how far the wall clock may run ahead of the monotonic clock
// between two polls before the machine is taken to have slept. A smaller
// difference is the clock being set.
const sleepThreshold = 5 * time.Second

// networkWatcher detects that the machine's addresses or routes changed, or that
// it slept. It polls, because that works alike on every system: a poll costs a
// few system calls.
type networkWatcher struct {
	interval time.Duration
	log      *slog.Logger

	// Replaced by tests.
	addrs  func() []string                              // sorted; nil if unknown
	clocks func() (wall time.Time, awake time.Duration) // awake stops while the machine sleeps
}

func newNetworkWatcher(interval time.Duration, log *slog.Logger) *networkWatcher {
	return &networkWatcher{interval: interval, log: log, addrs: localAddrs, clocks: readClocks}
}

// watch calls changed after each change until ctx is done.
func (w *networkWatcher) watch(ctx context.Context, changed func()) {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	addrs := w.addrs()
	wall, awake := w.clocks()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		wallNow, awakeNow := w.clocks()
		slept := wallNow.Sub(wall) - (awakeNow - awake)
		wall, awake = wallNow, awakeNow
		current := w.addrs()
		if current == nil {
			current = addrs
		}
		switch {
		case slept > sleepThreshold:
			w.log.Info("woke from sleep", "after", slept.Round(time.Second))
		case !slices.Equal(current, addrs):
			w.log.Info("network changed")
		default:
			continue
		}
		addrs = current
		changed()
	}
}

var processStart = time.Now()

// readClocks returns the time without and with the monotonic clock.
func readClocks() (wall time.Time, awake time.Duration) {
	now := time.Now()
	return now.Round(0), now.Sub(processStart)
}

// localAddrs returns the machine's addresses and its default source addresses,
// or nil if the system does not tell.
func localAddrs() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	return append(withoutLinkLocal(list), sourceAddr("udp4", "192.0.2.1:9"), sourceAddr("udp6", "[2001:db8::1]:9"))
}

// withoutLinkLocal returns the other addresses, sorted. Link-local addresses
// come and go with each container and virtual machine, and reach no server.
func withoutLinkLocal(list []net.Addr) []string {
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

// sourceAddr returns the address that packets to remote would be sent from.
// Connecting a UDP socket sends nothing, and localAddrs passes addresses that
// are reserved for documentation (RFC 5737, RFC 3849).
func sourceAddr(network, remote string) string {
	c, err := net.Dial(network, remote)
	if err != nil {
		return "no route"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
