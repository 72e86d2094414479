package client_test

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"adit/client"
	"adit/server"
)

func TestWatchNetwork(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	cfg := g.clientConfig()
	cfg.Servers = []string{unreachableURL(t)}
	cfg.BackoffMin, cfg.BackoffMax, cfg.WatchInterval = time.Hour, time.Hour, time.Millisecond
	var addrs atomic.Pointer[[]string]
	addrs.Store(&[]string{"192.0.2.1/24"})
	var slept atomic.Int64
	polls := make(chan struct{}, 1)
	r := run(t, cfg, func(c *client.Client) {
		c.SetNetwork(func() []string {
			select {
			case polls <- struct{}{}:
			default:
			}
			return *addrs.Load()
		}, func() (time.Time, time.Duration) {
			return time.Unix(0, 0).Add(time.Duration(slept.Load())), 0
		})
	})
	r.log.Wait(t, 1, "connect failed")
	poll := func() {
		for range 3 {
			<-polls
		}
	}
	poll()
	if n := len(r.log.Lines("connect failed")); n != 1 {
		t.Fatalf("%d attempts in an unchanged network", n)
	}
	addrs.Store(&[]string{"192.0.2.1/24", "198.51.100.7/24"})
	r.log.Wait(t, 1, "network changed")
	r.log.Wait(t, 2, "connect failed")
	var unknown []string
	// An unknown network is no change.
	addrs.Store(&unknown)
	poll()
	addrs.Store(&[]string{"192.0.2.1/24", "198.51.100.7/24"})
	poll()
	slept.Store(int64(time.Minute))
	r.log.Wait(t, 1, "woke from sleep", "after=1m0s")
	r.log.Wait(t, 3, "connect failed")
	// The clock was set.
	slept.Add(int64(time.Second))
	poll()
	if n := len(r.log.Lines("connect failed")); n != 3 {
		t.Errorf("%d attempts", n)
	}
}

// Link-local addresses, which come and go with containers, are ignored.
func TestLinkLocalAddresses(t *testing.T) {
	var addrs []net.Addr
	for _, s := range []string{"fe80::1/64", "192.0.2.7/24", "169.254.3.4/16", "2001:db8::7/64", "127.0.0.1/8"} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	if got, want := client.WithoutLinkLocal(addrs), []string{"127.0.0.1/8", "192.0.2.7/24", "2001:db8::7/64"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
