//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// newConnections measures how many connections per second are opened, carry a byte in both
// directions and are closed, by atOnce applications at a time.
func newConnections(atOnce int) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		var (
			done atomic.Int64
			stop atomic.Bool
			all  sync.WaitGroup
			errs = make([]error, atOnce)
		)
		for worker := range errs {
			all.Go(func() {
				for !stop.Load() && ctx.Err() == nil && errs[worker] == nil {
					errs[worker] = touch(s.dial)
					done.Add(1)
				}
			})
		}
		time.Sleep(set.d / 4)
		n, cpu, start := done.Load(), s.cpu(), time.Now()
		time.Sleep(set.d)
		n, cpu = done.Load()-n, s.cpu()-cpu
		took := time.Since(start)
		stop.Store(true)
		all.Wait()
		if err := errors.Join(append(errs, ctx.Err())...); err != nil {
			return nil, err
		}
		return values{keyConns: float64(n) / took.Seconds(), keyCost: milliseconds(cpu) / float64(max(n, 1))}, nil
	}
}

// firstByte measures how many round trips of the path an application waits from its connect to the
// first byte of an answer.
func firstByte(ctx context.Context, s *stage, set settings) (values, error) {
	const times = 5
	var took []time.Duration
	for range times {
		start := time.Now()
		if err := touch(s.dial); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return values{keyTrips: percentile(took, 0.5).Seconds() / s.path.rtt.Seconds()}, ctx.Err()
}
