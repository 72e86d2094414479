//go:build linux

package main

import "slices"

// A goal bounds one of adit's values, or its ratio to that of another peer.
type goal struct {
	workload, key string
	peer          string  // "" for the value itself
	least, most   float64 // one of them
}

// nameFirst stands for the first binary that bench compare is given. The report has no such goals.
const nameFirst = "first"

// goals returns all goals in the order of the report.
func goals() (all []goal) {
	for _, w := range []string{"veth-up1", "veth-down1", "veth-up8", "veth-down8"} {
		all = append(all, goal{w, keyRate, nameFirst, 0.95, 0}, goal{w, keyCPU, nameFirst, 0, 1.3}, goal{w, keyCPU, nameStunnel, 0, 1})
	}
	all = append(all,
		goal{"rtt", keyP50, nameStunnel, 0, 1},
		goal{"new1", keyConns, nameSSH, 0.95, 0},
		goal{"beside-up", keyP99, nameSSH, 0, 1.2}, goal{"beside-down", keyP99, nameSSH, 0, 1.2},
		goal{"first", keyTrips, "", 0, 1.1}, // the machine's own latency is in it
		goal{"idle", keyClient, "", 0, 10}, goal{"idle", keyServer, "", 0, 10},
		goal{"long-up", keyRate, nameStunnel, 0.85, 0}, goal{"long-down", keyRate, nameStunnel, 0.85, 0})
	for _, w := range []string{"slow100-up", "slow100-down"} {
		all = append(all, goal{w, keyP99, "", 0, 35}, goal{w, keyUse, "", 95, 0})
	}
	for _, w := range []string{"slow20-up", "slow20-down"} {
		all = append(all, goal{w, keyP99, "", 0, 90}, goal{w, keyUse, "", 90, 0})
	}
	return all
}

// goalsOf returns the goals of a workload.
func goalsOf(workload string) []goal {
	return slices.DeleteFunc(goals(), func(g goal) bool { return g.workload != workload })
}

// bound returns the bound as text without its unit.
func (g goal) bound() string {
	if g.most > 0 {
		return "at most " + short(g.most)
	}
	return "at least " + short(g.least)
}

// reached reports whether a value is within the bound, as a table cell.
func (g goal) reached(v float64) string {
	if g.most > 0 && v > g.most || g.most == 0 && v < g.least {
		return "**no**"
	}
	return "yes"
}
