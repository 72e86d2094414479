package link

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// probeTimeout is how long a probe waits for any byte from the peer.
const probeTimeout = 4 * time.Second

// watch sends pings on c, and returns an error when c is silent for too long, or nil
// when c is detached.
func (l *Link) watch(c *connection) error {
	timer := time.NewTimer(0) // the first ping at once: it measures the path
	defer timer.Stop()
	nextPing := time.Now()
	for {
		select {
		case <-c.gone:
			return nil
		case <-c.wakeWatch:
			nextPing = time.Now()
		case <-timer.C:
		}
		now := time.Now()
		if !now.Before(nextPing) {
			c.conn.Ping(binary.BigEndian.AppendUint64(nil, uint64(now.Sub(l.start))))
			nextPing = now.Add(jitter(l.cfg.PingInterval))
		}
		last := c.conn.LastRead()
		deadline := last.Add(l.cfg.Silence)
		if by := c.probeBy.Load(); by != 0 {
			if c.answered(l, by) {
				c.probeBy.CompareAndSwap(by, 0)
			} else if probe := l.start.Add(time.Duration(by)); probe.Before(deadline) {
				deadline = probe
			}
		}
		if !now.Before(deadline) {
			return fmt.Errorf("%w: not a byte from the peer for %v", ErrLost, now.Sub(last).Round(time.Millisecond))
		}
		timer.Reset(min(deadline.Sub(now), nextPing.Sub(now)))
	}
}

// Probe pings the peer now, and gives the connection up when no byte comes
// within probeTimeout.
func (l *Link) Probe() {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return
	}
	by := c.probeBy.Load()
	if by == 0 || c.answered(l, by) {
		c.probeBy.CompareAndSwap(by, int64(time.Since(l.start)+probeTimeout))
	}
	select {
	case c.wakeWatch <- struct{}{}:
	default:
	}
}

// answered reports whether something has come since the probe that is due at by.
func (c *connection) answered(l *Link, by int64) bool {
	return c.conn.LastRead().After(l.start.Add(time.Duration(by) - probeTimeout))
}

// pong takes the payload of a pong: the time of the ping on the link's clock.
func (l *Link) pong(payload []byte) {
	if len(payload) != 8 {
		return
	}
	now, sent := time.Since(l.start), time.Duration(binary.BigEndian.Uint64(payload))
	if sent < 0 || sent >= now { // not a time that this side has sent
		return
	}
	sample := int64(now - sent)
	if old := l.rtt.Load(); old != 0 {
		sample = old + (sample-old)/4
	}
	l.rtt.Store(sample)
}

// RTT is the smoothed round-trip time of the present connection, 0 while it is
// unknown.
func (l *Link) RTT() time.Duration { return time.Duration(l.rtt.Load()) }

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}
