package mux

import (
	"testing"
	"time"
)

// A sender with endless data over a simulated path: it fills the path, and
// keeps no more in its buffer than about as much again.
func TestPace(t *testing.T) {
	for name, path := range map[string]struct {
		rtt  time.Duration
		rate float64 // bytes per second
	}{
		"loopback":          {200 * time.Microsecond, 500 << 20},
		"1 Gbit/s, 100 ms":  {100 * time.Millisecond, 125e6},
		"100 Mbit/s, 20 ms": {20 * time.Millisecond, 12.5e6},
		"20 Mbit/s, 50 ms":  {50 * time.Millisecond, 2.5e6},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			start := time.Unix(1000, 0)
			now, free := start, start // free: when the bottleneck has sent all it was given
			type ack struct {
				to uint64
				at time.Time
			}
			var acks []ack
			var delivered, most uint64
			const message = 64 << 10
			for now.Sub(start) < 100*time.Second {
				if !p.full() {
					to := p.sentTo + message
					p.sent(to, now)
					if free.Before(now) {
						free = now
					}
					free = free.Add(time.Duration(message / path.rate * 1e9))
					acks = append(acks, ack{to, free.Add(path.rtt)})
					if now.Sub(start) > 10*time.Second {
						most = max(most, p.sentTo-p.ackedTo)
					}
					continue
				}
				now = acks[0].at
				p.acked(acks[0].to, now)
				delivered = acks[0].to
				acks = acks[1:]
			}
			if got := float64(delivered) / now.Sub(start).Seconds(); got < 0.95*path.rate {
				t.Errorf("%.2f of the path's rate", got/path.rate)
			}
			bdp := path.rate * (path.rtt + stall).Seconds()
			if limit := 3*bdp + 2*minFlight; float64(most) > limit {
				t.Errorf("%d bytes on their way, the path takes %.0f", most, bdp)
			}
		})
	}
}
