package client

import (
	"math/rand/v2"
	"time"
)

// backoff computes the pauses between failed attempts: each is twice as long as
// the one before it, less up to half at random.
type backoff struct {
	min  time.Duration
	next time.Duration // before jitter
}

func newBackoff(min time.Duration) backoff { return backoff{min, min} }

func (b *backoff) reset() { b.next = b.min }

// pause returns the pause to make now. limit bounds the one after it.
func (b *backoff) pause(limit time.Duration) time.Duration {
	d := jitter(b.next)
	b.next = min(2*b.next, limit)
	return d
}

// jitter takes up to half of d away at random, so that the many clients of a
// server that restarts do not all return at once.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}
