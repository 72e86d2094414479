//go:build linux

package main

import (
	"context"
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
		turns := max(int(resumptionTurns*set.d.Seconds()), 1)
		on, off, err := s.inTurns(ctx, all[i], 1, up, turns, resumptionTurn)
		if err != nil {
			return nil, err
		}
		return values{
			keyRateRatio: on.mibPerSecond() / off.mibPerSecond(), keyCPURatio: on.cpuPerGiB() / off.cpuPerGiB(),
			keyRate: on.mibPerSecond(), keyCPU: on.cpuPerGiB(),
		}, nil
	}
}
