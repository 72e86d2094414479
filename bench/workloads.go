//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Settings say how much of everything.
type settings struct {
	d    time.Duration // of the measured part of most workloads
	idle int           // connections
}

// Keys of what a workload measures.
const (
	keyRate   = "MiB/s"
	keyCPU    = "CPU-s/GiB"
	keyP50    = "p50 ms"
	keyP99    = "p99 ms"
	keyShare  = "% of alone"
	keyUse    = "link use %"
	keyConns  = "connections/s"
	keyCost   = "CPU-ms/connection"
	keyNear   = "kB near"
	keyFar    = "kB far"
	keyHeld   = "held"
	keyRounds = "round trips"

	keyOfOne     = "MiB/s, of 1 stream"
	keyRateRatio = "MiB/s, of off"
	keyCPURatio  = "CPU-s/GiB, of off"
)

type values map[string]float64

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// transfer measures one stream that is busy in one direction.
func transfer(up bool) func(context.Context, *stage, settings) (values, error) {
	return transferAfter(0, up)
}

// transferAfter is transfer after as many others, one after the other, that stay open.
func transferAfter(others int, up bool) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		warm, d := set.d/4, set.d
		if rtt := s.path.rtt; rtt > 0 { // how much can be sent is found out in round trips
			warm, d = set.d+2*rtt, 2*set.d+2*rtt
		}
		pairs, err := s.pairs(others+1, time.Duration(others+1)*(warm+d))
		if err != nil {
			return nil, err
		}
		if err := calm(ctx); err != nil {
			return nil, err
		}
		for i := range others {
			b := s.startBulk(pairs[i:i+1], up)
			if err := errors.Join(b.run(ctx, warm), b.end()); err != nil {
				return nil, err
			}
		}
		b := s.startBulk(pairs[others:], up)
		w, err := b.warmed(ctx, warm, s.cpu, func() error { return b.run(ctx, d) })
		return values{keyRate: w.mibPerSecond(), keyCPU: w.cpuPerGiB()}, err
	}
}

// manyStreams measures streams that are busy in one direction at once, and what they carry together
// relative to one stream in a tunnel of its own. The two take turns.
func manyStreams(streams int, up bool) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		// Two are enough for neither to be always the first.
		many, one, err := s.inTurns(ctx, s.peer, streams, up, 2, set.d/2)
		if err != nil {
			return nil, err
		}
		return values{
			keyRate: many.mibPerSecond(), keyCPU: many.cpuPerGiB(),
			keyOfOne: many.mibPerSecond() / one.mibPerSecond(),
		}, nil
	}
}

// warmed lets the flows run for a while, measures what passes while during runs, and ends them.
func (b *bulk) warmed(ctx context.Context, warm time.Duration, cpu func() time.Duration, during func() error) (window, error) {
	if err := b.run(ctx, warm); err != nil {
		return window{}, err
	}
	w, err := b.measure(cpu, during)
	if err == nil && w.bytes == 0 {
		err = errors.New("nothing passed")
	}
	return w, errors.Join(err, b.end())
}

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

// besideBulk measures keystrokes beside a stream that takes all it can get, and what they and that
// stream cost each other. The stream is alone and beside them by turns, since a machine does not stay
// the same. While a tunnel may heed what was typed it does not count as alone.
func besideBulk(up bool) func(context.Context, *stage, settings) (values, error) {
	const turns = 2
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		pairs, err := s.pairs(1+turns, turns*(heed+2*set.d))
		if err != nil {
			return nil, err
		}
		var (
			alone, beside window
			took          []time.Duration
		)
		b := s.startBulk(pairs[:1], up)
		turn := func(p pair) error {
			if err := b.run(ctx, heed); err != nil {
				return err
			}
			w, err := b.measure(s.cpu, func() error { return b.run(ctx, set.d/turns) })
			if err != nil {
				return err
			}
			alone.add(w)
			w, err = b.measure(s.cpu, func() error {
				some, err := s.timed(ctx, p, roleKeystrokes, 2*set.d/turns)
				took = append(took, some...)
				return err
			})
			beside.add(w)
			return err
		}
		for _, p := range pairs[1:] {
			if err = turn(p); err != nil {
				break
			}
		}
		return values{
			keyP50: milliseconds(percentile(took, 0.5)), keyP99: milliseconds(percentile(took, 0.99)),
			keyRate: beside.mibPerSecond(), keyShare: 100 * beside.mibPerSecond() / alone.mibPerSecond(),
		}, errors.Join(err, b.end())
	}
}

// onSlowPath measures keystrokes beside a stream that takes all it can get of a narrow path.
func onSlowPath(up bool) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		pairs, err := s.pairs(2, 5*set.d)
		if err != nil {
			return nil, err
		}
		bottleneck := s.wire.fromFar
		if up {
			bottleneck = s.wire.fromNear
		}
		var (
			took   []time.Duration
			passed int64
		)
		b := s.startBulk(pairs[:1], up)
		w, err := b.warmed(ctx, set.d+10*s.path.rtt, s.cpu, func() (err error) {
			before := bottleneck.passed.Load()
			took, err = s.timed(ctx, pairs[1], roleKeystrokes, 3*set.d)
			passed = bottleneck.passed.Load() - before
			return err
		})
		return values{
			keyP50: milliseconds(percentile(took, 0.5)), keyP99: milliseconds(percentile(took, 0.99)),
			keyRate: w.mibPerSecond(), keyUse: 100 * float64(passed) * 8 / s.path.rate / w.took.Seconds(),
		}, err
	}
}

// newConnections measures how many connections a second are opened, carry a byte both ways and are
// closed, by so many applications at once.
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
	return values{keyRounds: percentile(took, 0.5).Seconds() / s.path.rtt.Seconds()}, ctx.Err()
}

// idleCrowd measures the memory of idle connections, and a busy one beside them.
func idleCrowd(ctx context.Context, s *stage, set settings) (values, error) {
	n := set.idle
	if s.peer.most > 0 {
		n = min(n, s.peer.most)
	}
	near, far := memoryOf(s.nearEnd), memoryOf(s.farEnd)
	crowd, err := s.holdIdle(n)
	if err != nil {
		return nil, err
	}
	defer crowd.abandon()
	// A garbage collector has time to give back what the opening took.
	if err := pause(ctx, set.d); err != nil {
		return nil, err
	}
	near, far = memoryOf(s.nearEnd)-near, memoryOf(s.farEnd)-far

	beside, alone, err := s.inTurns(ctx, s.peer, 1, true, 2, set.d/2)
	if err != nil {
		return nil, err
	}
	return values{
		keyHeld: float64(n), keyNear: float64(near) / float64(n) / 1e3, keyFar: float64(far) / float64(n) / 1e3,
		keyRate: beside.mibPerSecond(), keyShare: 100 * beside.mibPerSecond() / alone.mibPerSecond(),
	}, crowd.release()
}

func memoryOf(processes []*process) (sum int64) {
	for _, p := range processes {
		sum += p.memory()
	}
	return sum
}
