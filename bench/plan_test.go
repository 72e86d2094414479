//go:build linux

package main

import (
	"slices"
	"testing"
)

// Every goal names a workload, a value that it has, and a peer that takes part.
func TestGoalsAreMeasured(t *testing.T) {
	for _, g := range goals() {
		i := slices.IndexFunc(allWorkloads(), func(w workload) bool { return w.name == g.workload })
		if i < 0 {
			t.Errorf("%+v: no such workload", g)
			continue
		}
		w := allWorkloads()[i]
		if !slices.ContainsFunc(w.columns, func(c column) bool { return c.key == g.key }) {
			t.Errorf("%+v: %s does not measure it", g, g.workload)
		}
		if g.peer != "" && g.peer != nameFirst && !slices.ContainsFunc(allPeers(""), func(p *peer) bool { return p.name == g.peer && p.route == w.route }) {
			t.Errorf("%+v: no such peer", g)
		}
		if (g.least > 0) == (g.most > 0) {
			t.Errorf("%+v: want one bound", g)
		}
	}
}

func TestChooseWorkloads(t *testing.T) {
	if _, err := chooseWorkloads("up1,none"); err == nil {
		t.Error("an unknown workload is accepted")
	}
	for only, want := range map[string]int{"veth-up1": 1, "rtt,veth-up1": 2, "slow": 4, "slow,slow20-up": 4, allGroups(): len(allWorkloads())} {
		if got, err := chooseWorkloads(only); err != nil || len(got) != want {
			t.Errorf("%q chooses %d workloads, want %d: %v", only, len(got), want, err)
		}
	}
}

// Workloads that share processes have one path, and those that are alone share with none.
func TestSharing(t *testing.T) {
	total := 0
	for _, together := range sharing(allWorkloads()) {
		total += len(together)
		for _, w := range together {
			if w.path != together[0].path || w.route != together[0].route || w.tls != together[0].tls || w.alone && len(together) > 1 {
				t.Errorf("%s shares with %s", w.name, together[0].name)
			}
		}
	}
	if total != len(allWorkloads()) {
		t.Errorf("%d workloads, want %d", total, len(allWorkloads()))
	}
}
