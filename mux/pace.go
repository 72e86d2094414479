package mux

import "time"

// pace bounds the bytes on their way to the peer by what the path needs: what
// is above that waits in buffers of the path, and everything newer waits behind
// it. The peer's acknowledgements show how fast bytes are delivered and how
// long one takes; twice the product keeps the path full, and lets the rate be
// seen to grow. It is guarded by link.mu.
type pace struct {
	sentTo, ackedTo uint64   // numbers of the link's stream
	flights         []flight // messages on their way, oldest first
	ackedAt         time.Time

	rate      float64       // bytes per second: the highest of late …
	rateSince time.Time     // … and when that was seen
	rtt       time.Duration // the least time from a message to its acknowledgement …
	rttSince  time.Time     // … and when that was seen
	probe     time.Time     // since when few bytes are sent, to see the least time anew
	probeFor  time.Duration // how long what was on its way by then takes
}

// flight is a message on its way.
type flight struct {
	end     uint64
	at      time.Time // when it was written
	acked   uint64    // what the peer had acknowledged by then …
	ackedAt time.Time // … and when
}

const (
	// minFlight is always allowed: the peer acknowledges that many at once,
	// and there must be some behind them.
	minFlight = 2 * ackEvery
	// stall is how long either end's process may not get to run.
	stall = time.Millisecond
	// maxFlights bounds the messages that are kept account of. Others go
	// without.
	maxFlights = 1024
	// rateFor is how long the highest rate counts, and rttFor how long the
	// least time does.
	rateFor = time.Second
	rttFor  = 30 * time.Second
)

// full reports whether no more should be sent now.
func (p *pace) full() bool {
	limit := uint64(minFlight)
	if p.probe.IsZero() {
		limit = max(limit, uint64(2*p.rate*(p.rtt+stall).Seconds())+ackEvery)
	}
	return p.sentTo-p.ackedTo >= limit
}

// sent says that the bytes before number to are on their way.
func (p *pace) sent(to uint64, now time.Time) {
	if p.ackedTo == p.sentTo {
		p.ackedAt = now // the path has been idle
	}
	p.sentTo = to
	if len(p.flights) < maxFlights {
		p.flights = append(p.flights, flight{to, now, p.ackedTo, p.ackedAt})
	}
}

// acked says that the peer has received the bytes before number to.
func (p *pace) acked(to uint64, now time.Time) {
	to = min(to, p.sentTo)
	if to <= p.ackedTo {
		return
	}
	p.ackedTo = to
	n := 0
	for n < len(p.flights) && p.flights[n].end <= to {
		n++
	}
	p.ackedAt = now
	if n == 0 {
		return
	}
	f := p.flights[n-1]
	p.flights = p.flights[:copy(p.flights, p.flights[n:])]
	p.sample(now.Sub(f.at), float64(to-f.acked)/max(now.Sub(f.ackedAt).Seconds(), 1e-6), f.at, now)
}

// sample takes in a time and a rate that were seen with a message.
func (p *pace) sample(rtt time.Duration, rate float64, at, now time.Time) {
	switch {
	case p.rtt == 0 || rtt <= p.rtt:
		p.rtt, p.rttSince, p.probe = rtt, now, time.Time{}
	case !p.probe.IsZero() && at.Sub(p.probe) > p.probeFor:
		p.rtt, p.rttSince, p.probe = rtt, now, time.Time{}
	case p.probe.IsZero() && now.Sub(p.rttSince) > rttFor:
		p.probe, p.probeFor = now, rtt
	}
	if rate >= p.rate || now.Sub(p.rateSince) > max(rateFor, 10*p.rtt) && p.probe.IsZero() {
		p.rate, p.rateSince = rate, now
	}
}
