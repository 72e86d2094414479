package link

import "time"

// flightLimit bounds the bytes in flight to what the path needs. What is above
// that waits in buffers of the path, and everything newer waits behind it. The
// peer's acknowledgements show the delivery rate, the least delivery time, and
// how unevenly acknowledgements arrive. The product of the first two fills the
// path, and the third keeps it full.
//
// It is guarded by link.mu. The zero value knows nothing of the path.
type flightLimit struct {
	sentTo, ackedTo uint64 // numbers of the link's stream
	ackedAt         time.Time
	flights         []flight // messages in flight, oldest first

	rate     float64       // bytes per second: the highest recent average …
	rateAt   time.Time     // … and when it was seen
	rtt      time.Duration // the least time from a message to its acknowledgement …
	rttAt    time.Time     // … and when it was seen
	burst    float64       // bytes by which acknowledgements run ahead of the rate, on average
	probe    time.Time     // since when few bytes are sent, to measure the least time again
	probeFor time.Duration // how long the bytes in flight at that time take

	// The rate sample that has begun.
	since   time.Time
	from    uint64  // ackedTo then
	ahead   float64 // the largest burst in it
	limited bool    // more could have been sent

	average float64 // of the rate samples
	plateau float64 // the average that has not grown by a quarter …
	samples int     // … for so many samples

	// Since acknowledgements were last behind the rate.
	evenAt    time.Time
	evenBytes float64
}

// flight is a message in flight.
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
	// maxFlights bounds the messages that are tracked. The others are not.
	maxFlights = 1024
	// A rate sample takes a round trip, and minSample at least: over a shorter
	// time it shows how the processes are scheduled.
	minSample = 5 * time.Millisecond
	// Until the rate has not grown for settledAfter samples, twice what it needs
	// is sent to let it grow, and then settledGain times.
	settledAfter = 3
	settledGain  = 1.1
	// rateFor is how long the highest rate counts, and rttFor how long the least
	// time does.
	rateFor = time.Second
	rttFor  = 10 * time.Second
	// messageTime is how long the path may be busy with one message: more important
	// bytes wait behind it. But minMessage is sent however slow the path is, and
	// firstMessage while nothing is known of it.
	messageTime  = 1 * time.Millisecond
	minMessage   = 8 << 10
	firstMessage = 32 << 10
)

// full reports whether no more should be sent now. Priority bytes may be a message
// ahead of the rest.
func (f *flightLimit) full(priority bool) bool {
	limit := f.limit()
	if priority {
		limit += uint64(f.messageSize())
	}
	return f.sentTo-f.ackedTo >= limit
}

// limit is how many bytes may be in flight.
func (f *flightLimit) limit() uint64 {
	switch {
	case !f.probe.IsZero():
		return minFlight
	case f.rate == 0:
		return firstFlight
	case f.samples < settledAfter:
		return f.fill(2)
	default:
		return f.fill(settledGain)
	}
}

// fill is what fills the path, times gain, and what its unevenness needs.
func (f *flightLimit) fill(gain float64) uint64 {
	needs := f.rate * (f.rtt + stall).Seconds()
	return uint64(max(minFlight, needs+max((gain-1)*needs, f.burst*0.75)))
}

// messageSize is the most bytes that one message, and one frame, should have.
func (f *flightLimit) messageSize() int {
	if f.rate == 0 {
		return firstMessage
	}
	return int(min(max(f.rate*messageTime.Seconds(), minMessage), MaxFrame))
}

// sent says that the bytes before number to are in flight.
func (f *flightLimit) sent(to uint64, now time.Time) {
	if f.ackedTo == f.sentTo && now.Sub(f.ackedAt) > minSample { // the path has been idle
		f.beginSample(now)
	}
	f.sentTo = to
	if len(f.flights) < maxFlights {
		f.flights = append(f.flights, flight{to, now})
	}
}

func (f *flightLimit) beginSample(now time.Time) {
	f.since, f.from, f.ahead, f.limited = now, f.ackedTo, 0, false
}

// acked says that the peer has received the bytes before number to, and whether
// more wait to be sent.
func (f *flightLimit) acked(to uint64, more bool, now time.Time) {
	f.limited = f.limited || more || f.sentTo-f.ackedTo >= f.fill(settledGain)
	to = min(to, f.sentTo)
	if to <= f.ackedTo {
		return
	}
	f.sampleBurst(float64(to-f.ackedTo), now)
	f.ackedTo, f.ackedAt = to, now
	n := 0
	for n < len(f.flights) && f.flights[n].end <= to {
		n++
	}
	if n > 0 {
		m := f.flights[n-1]
		f.flights = f.flights[:copy(f.flights, f.flights[n:])]
		f.sampleTime(now.Sub(m.at), m.at, now)
	}
	if d := now.Sub(f.since); d >= max(minSample, f.rtt) {
		f.sampleRate(float64(to-f.from)/d.Seconds(), now)
		f.beginSample(now)
	}
}

// sampleTime takes in how long a message that was written at a time took.
func (f *flightLimit) sampleTime(rtt time.Duration, at, now time.Time) {
	switch {
	case f.rtt == 0 || rtt <= f.rtt,
		!f.probe.IsZero() && at.Sub(f.probe) > f.probeFor:
		f.rtt, f.rttAt, f.probe = rtt, now, time.Time{}
	case f.probe.IsZero() && now.Sub(f.rttAt) > rttFor:
		f.probe, f.probeFor = now, rtt
	}
}

// sampleBurst takes in n bytes that were acknowledged at once.
func (f *flightLimit) sampleBurst(n float64, now time.Time) {
	expected := f.rate * now.Sub(f.evenAt).Seconds()
	if f.evenBytes <= expected {
		f.evenAt, f.evenBytes, expected = now, 0, 0
	}
	f.evenBytes += n
	f.ahead = max(f.ahead, f.evenBytes-expected)
}

// sampleRate takes in the rate of a sample. A sample during which there was not
// more to send says nothing against a higher rate.
func (f *flightLimit) sampleRate(rate float64, now time.Time) {
	if rate < f.average && (!f.limited || !f.probe.IsZero()) {
		return
	}
	weight := 0.5
	switch {
	case f.average == 0:
		weight = 1
	case f.samples >= settledAfter:
		weight = 0.2
	}
	f.average += weight * (rate - f.average)
	expired := now.Sub(f.rateAt) > max(rateFor, 10*f.rtt)
	if f.average >= f.rate || expired {
		f.rate, f.rateAt = f.average, now
	}
	f.burst += (min(f.ahead, max(ackEvery, f.rate*f.rtt.Seconds())) - f.burst) / 8
	switch {
	case f.average > 1.25*f.plateau:
		f.plateau, f.samples = f.average, 0
	case f.limited:
		f.samples++
		if f.average < f.plateau/2 {
			f.plateau = f.average
		}
	}
}
