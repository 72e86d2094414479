//go:build linux

package main

import (
	"context"
	"time"
)

// idleRoundTrip measures a byte there and back in a tunnel without other traffic.
func idleRoundTrip(ctx context.Context, s *stage, set settings) (values, error) {
	pairs, err := s.pairs(1, set.d)
	if err != nil {
		return nil, err
	}
	took, err := s.timed(ctx, pairs[0], roleRoundTrips, set.d)
	return values{
		keyP50: milliseconds(percentile(took, 0.5)), keyP99: milliseconds(percentile(took, 0.99)),
	}, err
}

// besideBulk measures keystrokes beside a stream that takes all it can get, for twice the usual
// time: a 99th percentile needs many samples.
func besideBulk(to direction) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		return s.keystrokesBeside(ctx, to, set.d/2+10*s.path.rtt, 2*set.d, nil)
	}
}

// onSlowPath is besideBulk for a narrow path, of which it also measures the use.
func onSlowPath(to direction) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		bottleneck := s.wire.down
		if to == up {
			bottleneck = s.wire.up
		}
		return s.keystrokesBeside(ctx, to, set.d+10*s.path.rtt, 3*set.d, bottleneck)
	}
}

// keystrokesBeside measures keystrokes for d beside a stream that has been busy for warm. b may be
// nil.
func (s *stage) keystrokesBeside(ctx context.Context, to direction, warm, d time.Duration, b *bottleneck) (values, error) {
	pairs, err := s.pairs(1, warm+2*d)
	if err != nil {
		return nil, err
	}
	busy, err := s.streams(1, warm+2*d)
	if err != nil {
		return nil, err
	}
	var (
		took   []time.Duration
		passed int64
	)
	bulk := s.startBulk(busy, to)
	w, err := bulk.warmed(ctx, warm, s.cpu, func() (err error) {
		if b != nil {
			passed = b.passed.Load()
		}
		took, err = s.timed(ctx, pairs[0], roleKeystrokes, d)
		if b != nil {
			passed = b.passed.Load() - passed
		}
		return err
	})
	v := values{
		keyP50: milliseconds(percentile(took, 0.5)), keyP99: milliseconds(percentile(took, 0.99)),
		keyRate: w.mibPerSecond(),
	}
	if b != nil {
		v[keyUse] = 100 * float64(passed) * 8 / b.rate / w.took.Seconds()
	}
	return v, err
}
