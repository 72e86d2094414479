//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// resumptionTurn is how long each of the two is measured before it is the other's turn.
	resumptionTurn = 400 * time.Millisecond
	// resumptionTurns is how many turns each has for every second of the measured part of others.
	resumptionTurns = 10
)

// resumptionCost measures what the stage's adit does with one stream, relative to one that cannot
// resume and runs beside it. They take turns.
func resumptionCost(up bool) func(context.Context, *stage, settings) (values, error) {
	return func(ctx context.Context, s *stage, set settings) (values, error) {
		all := allPeers(s.peer.programs[0])
		i := slices.IndexFunc(all, func(p *peer) bool { return p.name == nameNoResume })
		without, err := s.scene.start(ctx, all[i], false)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", nameNoResume, err)
		}
		defer without.close()
		turns := max(int(resumptionTurns*set.d.Seconds()), 1)
		sums, err := inTurns(ctx, []entry{{s, 1}, {without, 1}}, up, turns, resumptionTurn)
		if err != nil {
			return nil, errors.Join(err, without.said())
		}
		on, off := sums[0], sums[1]
		return values{
			keyRateRatio: on.mibPerSecond() / off.mibPerSecond(), keyCPURatio: on.cpuPerGiB() / off.cpuPerGiB(),
			keyRate: on.mibPerSecond(), keyCPU: on.cpuPerGiB(),
		}, nil
	}
}
