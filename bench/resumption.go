//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// resumptionTurn is how long each of the two is measured before it is the other's turn: too short
// for the machine to change much in between.
const resumptionTurn = 400 * time.Millisecond

// resumptionTurns is how many turns each has for every second of the measured part of others.
const resumptionTurns = 10

// resumptionCost measures what the stage's adit does with one stream, relative to one that cannot
// resume and runs beside it. They take turns.
func resumptionCost(up bool) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (_ values, err error) {
		all := allPeers(s.peer.programs[0])
		i := slices.IndexFunc(all, func(p *peer) bool { return p.name == nameNoResume })
		without, err := s.scene.start(ctx, all[i], false)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", nameNoResume, err)
		}
		defer without.close()
		turns := max(int(resumptionTurns*set.d.Seconds()), 1)
		stages := []*stage{s, without}
		sums := make([]window, len(stages))
		var pairs [][]pair
		for _, st := range stages {
			p, err := st.pairs(1, time.Duration(4*turns)*resumptionTurn)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, p)
		}
		for turn := range turns {
			for k := range stages {
				i := (turn + k) % len(stages) // neither is always the first
				sum := &sums[i]
				b := stages[i].startBulk(pairs[i], up)
				w, err := b.warmed(ctx, resumptionTurn/4, stages[i].cpu, func() error { return b.run(ctx, resumptionTurn) })
				if err != nil {
					return nil, errors.Join(err, without.said())
				}
				sum.bytes, sum.took, sum.cpu = sum.bytes+w.bytes, sum.took+w.took, sum.cpu+w.cpu
			}
		}
		on, off := sums[0], sums[1]
		return values{
			keyRateRatio: on.mibPerSecond() / off.mibPerSecond(), keyCPURatio: on.cpuPerGiB() / off.cpuPerGiB(),
			keyRate: on.mibPerSecond(), keyCPU: on.cpuPerGiB(),
		}, nil
	}
}
