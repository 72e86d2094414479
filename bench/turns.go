//go:build linux

package main

import (
	"context"
	"time"
)

// An entry is one of those that take turns: so many streams of a stage.
type entry struct {
	stage   *stage
	streams int
}

// inTurns measures each entry with its streams busy in one direction, so often for so long. What it
// does before, for a quarter of that, does not count.
func inTurns(ctx context.Context, entries []entry, up bool, turns int, turn time.Duration) ([]window, error) {
	pairs := make([][]pair, len(entries))
	for i, e := range entries {
		var err error
		if pairs[i], err = e.stage.pairs(e.streams, time.Duration(2*len(entries)*turns)*turn); err != nil {
			return nil, err
		}
	}
	sums := make([]window, len(entries))
	for first := range turns {
		for k := range entries {
			i := (first + k) % len(entries) // none is always the first
			e, sum := entries[i], &sums[i]
			b := e.stage.startBulk(pairs[i], up)
			w, err := b.warmed(ctx, turn/4, e.stage.cpu, func() error { return b.run(ctx, turn) })
			if err != nil {
				return nil, err
			}
			sum.bytes, sum.took, sum.cpu = sum.bytes+w.bytes, sum.took+w.took, sum.cpu+w.cpu
		}
	}
	return sums, nil
}
