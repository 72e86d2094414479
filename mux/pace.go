package mux

import "time"

// pace bounds the bytes on their way to the peer by what the path needs: what
// is above that waits in buffers of the path, and everything newer waits behind
// it. The peer's acknowledgements show how fast bytes are delivered, how long
// one takes at least, and how unevenly they arrive. The product of the first
// two fills the path, and the third keeps it full. It is guarded by link.mu.
type pace struct {
	sentTo, ackedTo uint64 // numbers of the link's stream
	ackedAt         time.Time
	flights         []flight // messages on their way, oldest first

	rate     float64       // bytes per second: the highest average of late …
	rateAt   time.Time     // … and when that was seen
	rtt      time.Duration // the least time from a message to its acknowledgement …
	rttAt    time.Time     // … and when that was seen
	burst    float64       // by how many bytes acknowledgements run ahead of the rate, on average
	probe    time.Time     // since when few bytes are sent, to see the least time anew
	probeFor time.Duration // how long what was on its way by then takes

	// The look at the rate that has begun.
	since   time.Time
	from    uint64  // ackedTo then
	ahead   float64 // the largest burst in it
	limited bool    // more could have been sent

	average float64 // of the looks' rates
	plateau float64 // the average that has not grown by a quarter …
	looks   int     // … for so many looks

	// Since acknowledgements were last behind the rate.
	evenAt    time.Time
	evenBytes float64
}

// flight is a message on its way.
type flight struct {
	end uint64
	at  time.Time // when it was written
}

const (
	// firstFlight is allowed while nothing is known of the path, and minFlight
	// always.
	firstFlight = 512 << 10
	minFlight   = 64 << 10
	// stall is how long either end's process may not get to run.
	stall = 2 * time.Millisecond
	// maxFlights bounds the messages that are kept account of. Others go
	// without.
	maxFlights = 1024
	// A look at the rate takes as long as the way there and back, and minLook
	// at least: over a shorter time it shows how the processes get to run.
	minLook = 5 * time.Millisecond
	// Until the rate has not grown for settledAfter looks, twice of what it
	// needs is sent to let it grow, and then settledGain.
	settledAfter = 3
	settledGain  = 1.1
	// rateFor is how long the highest rate counts, and rttFor how long the
	// least time does.
	rateFor = time.Second
	rttFor  = 10 * time.Second
	// pieceTime is how long the path may be busy with one message: something
	// more urgent waits behind it. But minPiece is sent however slow it is.
	pieceTime  = 1 * time.Millisecond
	minPiece   = 8 << 10
	firstPiece = 32 << 10
)

// full reports whether no more should be sent now. What is urgent may be a
// piece ahead of the rest.
func (p *pace) full(urgent bool) bool {
	limit := p.limit()
	if urgent {
		limit += uint64(p.piece())
	}
	return p.sentTo-p.ackedTo >= limit
}

// limit is how many bytes may be on their way.
func (p *pace) limit() uint64 {
	switch {
	case !p.probe.IsZero():
		return minFlight
	case p.rate == 0:
		return firstFlight
	case p.looks < settledAfter:
		return p.fill(2)
	default:
		return p.fill(settledGain)
	}
}

// fill is what fills the path, times gain, and what its unevenness needs.
func (p *pace) fill(gain float64) uint64 {
	needs := p.rate * (p.rtt + stall).Seconds()
	return uint64(max(minFlight, needs+max((gain-1)*needs, p.burst*0.75)))
}

// piece is how many bytes one message, and one frame, should have at most.
func (p *pace) piece() int {
	if p.rate == 0 {
		return firstPiece
	}
	return int(min(max(p.rate*pieceTime.Seconds(), minPiece), MaxFrame))
}

// sent says that the bytes before number to are on their way.
func (p *pace) sent(to uint64, now time.Time) {
	if p.ackedTo == p.sentTo && now.Sub(p.ackedAt) > minLook { // the path has been idle
		p.look(now)
	}
	p.sentTo = to
	if len(p.flights) < maxFlights {
		p.flights = append(p.flights, flight{to, now})
	}
}

// look begins a look.
func (p *pace) look(now time.Time) {
	p.since, p.from, p.ahead, p.limited = now, p.ackedTo, 0, false
}

// acked says that the peer has received the bytes before number to, and
// whether more wait to be sent.
func (p *pace) acked(to uint64, more bool, now time.Time) {
	p.limited = p.limited || more || p.sentTo-p.ackedTo >= p.fill(settledGain)
	to = min(to, p.sentTo)
	if to <= p.ackedTo {
		return
	}
	p.sampleBurst(float64(to-p.ackedTo), now)
	p.ackedTo, p.ackedAt = to, now
	n := 0
	for n < len(p.flights) && p.flights[n].end <= to {
		n++
	}
	if n > 0 {
		f := p.flights[n-1]
		p.flights = p.flights[:copy(p.flights, p.flights[n:])]
		p.sampleTime(now.Sub(f.at), f.at, now)
	}
	if d := now.Sub(p.since); d >= max(minLook, p.rtt) {
		p.sampleRate(float64(to-p.from)/d.Seconds(), now)
		p.look(now)
	}
}

// sampleTime takes in how long a message that was written at a time took.
func (p *pace) sampleTime(rtt time.Duration, at, now time.Time) {
	switch {
	case p.rtt == 0 || rtt <= p.rtt,
		!p.probe.IsZero() && at.Sub(p.probe) > p.probeFor:
		p.rtt, p.rttAt, p.probe = rtt, now, time.Time{}
	case p.probe.IsZero() && now.Sub(p.rttAt) > rttFor:
		p.probe, p.probeFor = now, rtt
	}
}

// sampleBurst takes in n bytes that were acknowledged at once.
func (p *pace) sampleBurst(n float64, now time.Time) {
	expected := p.rate * now.Sub(p.evenAt).Seconds()
	if p.evenBytes <= expected {
		p.evenAt, p.evenBytes, expected = now, 0, 0
	}
	p.evenBytes += n
	p.ahead = max(p.ahead, p.evenBytes-expected)
}

// sampleRate takes in the rate of a look. One at which more could not be sent,
// because there was no more, says nothing against a higher one.
func (p *pace) sampleRate(rate float64, now time.Time) {
	if rate < p.average && (!p.limited || !p.probe.IsZero()) {
		return
	}
	weight := 0.5
	switch {
	case p.average == 0:
		weight = 1
	case p.looks >= settledAfter:
		weight = 0.2
	}
	p.average += weight * (rate - p.average)
	expired := now.Sub(p.rateAt) > max(rateFor, 10*p.rtt)
	if p.average >= p.rate || expired {
		p.rate, p.rateAt = p.average, now
	}
	p.burst += (min(p.ahead, max(ackEvery, p.rate*p.rtt.Seconds())) - p.burst) / 8
	switch {
	case p.average > 1.25*p.plateau:
		p.plateau, p.looks = p.average, 0
	case p.limited:
		p.looks++
		if p.average < p.plateau/2 {
			p.plateau = p.average
		}
	}
}
