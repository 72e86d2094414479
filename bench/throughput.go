//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// A direction is that of a transfer.
type direction int

const (
	up   direction = iota // from the client to the target
	down                  // from the target to the client
)

// transfer measures streams that are busy at once in one direction.
func transfer(streams int, to direction) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		warm, d := s.times(set)
		pairs, err := s.streams(streams, warm+d)
		if err != nil {
			return nil, err
		}
		return s.transfer(ctx, pairs, to, warm, d)
	}
}

// transferAfter measures a new stream after others that were busy one after the other and stay open.
func transferAfter(others int, to direction) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		warm, d := s.times(set)
		pairs, err := s.pairs(others+1, time.Duration(others+1)*(warm+d))
		if err != nil {
			return nil, err
		}
		for i := range others {
			b := s.startBulk(pairs[i:i+1], to)
			if err := errors.Join(b.run(ctx, warm), b.end()); err != nil {
				return nil, err
			}
		}
		return s.transfer(ctx, pairs[others:], to, warm, d)
	}
}

// times returns how long a transfer runs before it is measured and while it is. Windows grow in
// round trips, so a path with delay takes longer.
func (s *stage) times(set settings) (warm, d time.Duration) {
	if rtt := s.path.rtt; rtt > 0 {
		return set.d + 2*rtt, 2*set.d + 2*rtt
	}
	return set.d / 4, set.d
}

func (s *stage) transfer(ctx context.Context, pairs []pair, to direction, warm, d time.Duration) (values, error) {
	b := s.startBulk(pairs, to)
	w, err := b.warmed(ctx, warm, s.cpu, func() error { return b.run(ctx, d) })
	return values{keyRate: w.mibPerSecond(), keyCPU: w.cpuPerGiB()}, err
}
