package link

import (
	"testing"
	"time"
)

// simulation is a path with a bottleneck and a deep buffer, and a sender that
// has endless data. The acknowledgements leave the far end at multiples of
// every.
type simulation struct {
	rtt   time.Duration
	rate  float64 // bytes per second
	every time.Duration

	acks []ack
	free time.Time // when the bottleneck has sent all that it was given
}

type ack struct {
	to uint64
	at time.Time
}

// run sends for a time, and returns the rate and the most bytes in flight in the second
// half of it.
func (s *simulation) run(p *flightLimit, start time.Time, d time.Duration) (rate, most float64) {
	now, half := start, start.Add(d/2)
	began := uint64(0)
	for now.Sub(start) < d {
		if !p.full(false) {
			to := p.sentTo + uint64(p.messageSize())
			n := float64(to - p.sentTo)
			p.sent(to, now)
			if s.free.Before(now) {
				s.free = now
			}
			s.free = s.free.Add(time.Duration(n / s.rate * 1e9))
			at := s.free
			if s.every > 0 {
				at = at.Add(s.every - 1).Truncate(s.every)
			}
			s.acks = append(s.acks, ack{to, at.Add(s.rtt)})
			if now.After(half) {
				most = max(most, float64(p.sentTo-p.ackedTo))
			}
			continue
		}
		now = s.acks[0].at
		p.acked(s.acks[0].to, true, now)
		if now.Before(half) {
			began = p.ackedTo
		}
		s.acks = s.acks[1:]
	}
	return float64(p.ackedTo-began) / now.Sub(half).Seconds(), most
}

// The limit fills the path, and allows few bytes in flight above that.
func TestFlightLimit(t *testing.T) {
	for name, path := range map[string]simulation{
		"fast":                            {rtt: 2 * time.Millisecond, rate: 500 << 20, every: 0},
		"1 Gbit/s, 100 ms":                {rtt: 100 * time.Millisecond, rate: 125e6, every: 0},
		"100 Mbit/s, 20 ms":               {rtt: 20 * time.Millisecond, rate: 12.5e6, every: time.Millisecond},
		"20 Mbit/s, 50 ms":                {rtt: 50 * time.Millisecond, rate: 2.5e6, every: time.Millisecond},
		"uneven, 100 Mbit/s, 5 to 20 ms":  {rtt: 5 * time.Millisecond, rate: 12.5e6, every: 15 * time.Millisecond},
		"uneven, 100 Mbit/s, 30 to 60 ms": {rtt: 30 * time.Millisecond, rate: 12.5e6, every: 30 * time.Millisecond},
		"uneven, 300 Mbit/s, 10 to 30 ms": {rtt: 10 * time.Millisecond, rate: 37e6, every: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := path, flightLimit{}
			rate, most := s.run(&p, time.Unix(1000, 0), 100*time.Second)
			if rate < 0.95*s.rate {
				t.Errorf("%.2f of the path's rate", rate/s.rate)
			}
			bdp := s.rate * (s.rtt + stall + s.every).Seconds()
			gain := 1.6
			if s.every > time.Millisecond {
				gain = 2.5
			}
			if most > gain*bdp+4*minFlight {
				t.Errorf("%.0f bytes in flight, the path takes %.0f", most, bdp)
			}
		})
	}
}

// Small amounts sent between transfers do not lower the rate.
func TestFlightLimitAfterKeystrokes(t *testing.T) {
	s := simulation{rtt: 20 * time.Millisecond, rate: 12.5e6, every: time.Millisecond}
	var p flightLimit
	now := time.Unix(1000, 0)
	s.run(&p, now, 10*time.Second)
	s.acks = nil
	now = now.Add(20 * time.Second)
	for range 1000 {
		p.acked(p.sentTo, false, now)
		now = now.Add(10 * time.Millisecond)
		p.sent(p.sentTo+30, now)
		now = now.Add(s.rtt)
	}
	p.acked(p.sentTo, false, now)
	if rate, _ := s.run(&p, now, time.Second); rate < 0.9*s.rate {
		t.Errorf("%.2f of the path's rate", rate/s.rate)
	}
}

// The limit follows a path that becomes slower or faster.
func TestFlightLimitFollows(t *testing.T) {
	var p flightLimit
	now := time.Unix(1000, 0)
	s := simulation{rtt: 20 * time.Millisecond, every: time.Millisecond}
	for _, rate := range []float64{12.5e6, 2.5e6, 12.5e6, 125e6} {
		s.rate = rate
		got, most := s.run(&p, now, 20*time.Second)
		now = now.Add(20 * time.Second)
		if got < 0.95*rate || most > 1.6*rate*0.022+4*minFlight {
			t.Errorf("at %.0f bytes/s: %.2f of it, with %.0f bytes in flight", rate, got/rate, most)
		}
	}
}

// Priority bytes need not wait until the path is less full, but only one message of
// them: many priority bytes must not fill the path either.
func TestFlightLimitPriority(t *testing.T) {
	start := time.Unix(1000, 0)
	var p flightLimit
	path := simulation{rtt: 20 * time.Millisecond, rate: 12.5e6}
	path.run(&p, start, 2*time.Second)
	now := path.free
	for !p.full(false) {
		p.sent(p.sentTo+100, now)
	}
	before := p.sentTo
	for !p.full(true) {
		p.sent(p.sentTo+100, now)
	}
	if more := int(p.sentTo - before); more < p.messageSize()-100 || more > p.messageSize()+100 {
		t.Errorf("%d bytes more, a message is %d", more, p.messageSize())
	}
}
