//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// inTurns measures so many streams of the stage, busy in one direction, beside one stream of another
// peer, which it starts. The two take turns, so often and for so long: too short for the machine to
// change much in between. What they do before, for a quarter of that, does not count.
func (s *stage) inTurns(ctx context.Context, other *peer, streams int, up bool, turns int, turn time.Duration) (ours, theirs window, err error) {
	beside, err := s.scene.start(ctx, other, s.tls)
	if err != nil {
		return ours, theirs, fmt.Errorf("start %s: %w", other.name, err)
	}
	defer beside.close()
	defer func() {
		if err != nil {
			err = errors.Join(err, beside.said())
		}
	}()
	stages, counts := [2]*stage{s, beside}, [2]int{streams, 1}
	var pairs [2][]pair
	for i, st := range stages {
		if pairs[i], err = st.pairs(counts[i], time.Duration(4*turns)*turn); err != nil {
			return ours, theirs, err
		}
	}
	if err := calm(ctx); err != nil {
		return ours, theirs, err
	}
	sums := [2]*window{&ours, &theirs}
	for first := range turns {
		for k := range stages {
			i := (first + k) % len(stages) // neither is always the first
			b := stages[i].startBulk(pairs[i], up)
			w, err := b.warmed(ctx, turn/4, stages[i].cpu, func() error { return b.run(ctx, turn) })
			if err != nil {
				return ours, theirs, err
			}
			sums[i].add(w)
		}
	}
	return ours, theirs, nil
}

// heed is longer than a tunnel goes on, after somebody has typed, to take care that the next
// keystroke is quick. It may take for a keystroke what opens a connection, too.
const heed = 2200 * time.Millisecond

// calm waits until that is over: what moves much is to be measured as it is when it moves for long.
func calm(ctx context.Context) error { return pause(ctx, heed) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
