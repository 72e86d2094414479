//go:build linux

package main

import (
	"reflect"
	"testing"
)

func TestFigure(t *testing.T) {
	r := new(record)
	add := func(round int, v float64, failure string) {
		r.Samples = append(r.Samples, sample{"up1", nameAdit, round, values{keyRate: v}, failure})
	}
	add(1, 5, "")
	add(2, 900, "broken")
	add(3, 1, "")
	if got, want := r.figure("up1", nameAdit, keyRate), (figure{3, 1, 5, 2}); got != want {
		t.Errorf("of two rounds %+v, want %+v", got, want)
	}
	add(4, 4, "")
	if got, want := r.figure("up1", nameAdit, keyRate), (figure{4, 1, 5, 3}); got != want {
		t.Errorf("of three rounds %+v, want %+v", got, want)
	}
	if got := r.figure("up1", nameChisel, keyRate); got.known() {
		t.Errorf("without samples %+v", got)
	}
}

// Older samples are kept for workloads without new ones, and only of the same machine.
func TestAdopt(t *testing.T) {
	of := func(kernel string, samples ...sample) *record {
		return &record{Machine: description{Kernel: kernel}, Peers: []participant{{Name: nameAdit, Version: "1"}}, Samples: samples}
	}
	old := of("1", sample{Workload: "up1", Peer: nameAdit, Round: 1}, sample{Workload: "rtt", Peer: nameAdit, Round: 1})
	fresh := of("1", sample{Workload: "up1", Peer: nameAdit, Round: 2})
	if err := fresh.adopt(old); err != nil {
		t.Fatal(err)
	}
	want := []sample{{Workload: "rtt", Peer: nameAdit, Round: 1}, {Workload: "up1", Peer: nameAdit, Round: 2}}
	if !reflect.DeepEqual(fresh.Samples, want) {
		t.Errorf("adopted: %+v, want %+v", fresh.Samples, want)
	}
	// No program gets a second try alone.
	old.Samples = append(old.Samples, sample{Workload: "rtt", Peer: nameSSH, Round: 1}, sample{Workload: "up1", Peer: nameSSH, Round: 1})
	fresh = of("1", sample{Workload: "up1", Peer: nameSSH, Round: 1}, sample{Workload: "rtt", Peer: nameChisel, Round: 1})
	if err := fresh.adopt(old); err != nil {
		t.Fatal(err)
	}
	want = []sample{old.Samples[1], old.Samples[2], fresh.Samples[2], fresh.Samples[3]}
	if !reflect.DeepEqual(fresh.Samples, want) || fresh.Samples[2].Workload != "up1" {
		t.Errorf("adopted: %+v, want %+v", fresh.Samples, want)
	}
	if err := of("2").adopt(old); err == nil {
		t.Error("figures of another machine are adopted")
	}
	other := of("1")
	other.Peers[0].Version = "2"
	if err := other.adopt(old); err == nil {
		t.Error("figures of another version are adopted")
	}
}

// The report says if workloads have different numbers of rounds.
func TestRounds(t *testing.T) {
	var r record
	add := func(workload string, rounds int) {
		for i := range rounds {
			r.Samples = append(r.Samples, sample{Workload: workload, Peer: nameAdit, Round: i + 1})
		}
	}
	for _, c := range []struct {
		workload string
		rounds   int
		want     string
	}{{"none", 0, "0 rounds"}, {"up1", 5, "5 rounds"}, {"down1", 5, "5 rounds"}, {"rtt", 2, "2 to 5 rounds"}, {"new1", 9, "2 to 9 rounds"}} {
		if add(c.workload, c.rounds); r.rounds() != c.want {
			t.Errorf("with %s: %s, want %s", c.workload, r.rounds(), c.want)
		}
	}
}

// The ratio is the median of the rounds' ratios, not the ratio of the medians.
func TestRatio(t *testing.T) {
	var r record
	for round, v := range [][2]float64{{1, 1}, {10, 5}, {300, 100}, {7, 0}} {
		r.Samples = append(r.Samples,
			sample{"up1", "after", round + 1, values{keyRate: v[0]}, ""},
			sample{"up1", "before", round + 1, values{keyRate: v[1]}, ""})
	}
	r.Samples = append(r.Samples, sample{"up1", "after", 5, values{keyRate: 9}, ""}, sample{"up1", "before", 5, nil, "broken"})
	if got, want := r.ratio("up1", "after", "before", keyRate), (figure{2, 1, 3, 3}); got != want {
		t.Errorf("the ratio is %+v, want %+v", got, want)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234.5: "1234", 123.4: "123", 12.34: "12.3", 12: "12", 1.234: "1.23", 1: "1", 0.5: "0.5",
		0.01234: "0.0123", 0.000001234: "0.000001", -2.5: "-2.5", 99.96: "100", 9.999: "10",
	} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %q, want %q", v, got, want)
		}
	}
}
