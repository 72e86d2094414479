//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCompare takes every measure that needs no other program, for a moment each.
func TestCompare(t *testing.T) {
	adit := aditBinary(t)
	c := comparison{rounds: 1, turn: 50 * time.Millisecond}
	var err error
	if c.binaries, err = parseBinaries([]string{"a=" + adit, "b=" + adit}); err != nil {
		t.Fatal(err)
	}
	namespaces := needNamespaces(t)
	for _, m := range allMeasures() {
		m.bounds = slices.DeleteFunc(m.bounds, func(b bound) bool { return b.of != ofFirst })
		if namespaces || !m.path.namespaces() {
			c.measures = append(c.measures, m)
		}
	}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.measures {
		for _, key := range m.keys {
			for _, p := range c.binaries {
				f := c.record.figure(m.name, p.name, key)
				counted := key == keyCPU || key == keyCost // too short a time may count as none
				if f.rounds != 1 || f.median <= 0 && !counted {
					t.Errorf("%s of %s: %s is %+v", m.name, p.name, key, f)
				}
			}
		}
	}
	for _, failure := range c.record.failures() {
		t.Errorf("%+v", failure)
	}
	var report strings.Builder
	c.report(&report)
	for _, m := range c.measures {
		if want := "| " + m.place() + ", " + m.title + " |"; !strings.Contains(report.String(), want) {
			t.Errorf("the report has no row %q", want)
		}
	}
	if left := descendants(os.Getpid()); len(left) != 1 {
		t.Errorf("processes are left: %+v", left[1:])
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

// A row says whether a bound is held.
func TestCompareBounds(t *testing.T) {
	m := allMeasures()[0]
	c := comparison{binaries: []*peer{{name: "before"}, {name: "after"}}, measures: []measure{m}, rounds: 1}
	for name, v := range map[string]values{"before": {keyRate: 100, keyCPU: 3}, "after": {keyRate: 90, keyCPU: 3.5}} {
		c.record.Samples = append(c.record.Samples, sample{m.name, name, 1, v, ""})
	}
	var b strings.Builder
	c.report(&b)
	for _, want := range []string{
		"| after | 90 | before | 100 | 0.9 (0.9–0.9) | ≥ 0.95 | **no** |",
		"| after | 3.5 | before | 3 | 1.17 (1.17–1.17) | ≤ 1.3 | yes |",
		"| after | 3.5 | stunnel | 0 | – | ≤ 1 | not measured |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &b)
		}
	}
}

func TestCompareArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "adit")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {file}, {"=" + file}, {"a=" + file, "a=" + file}, {"a=" + file + "x"}} {
		if _, err := parseBinaries(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	if got, err := parseBinaries([]string{"a=" + file, "b=" + file}); err != nil || len(got) != 2 {
		t.Errorf("two binaries: %v, %v", got, err)
	}
	if _, err := chooseMeasures("up1"); err == nil {
		t.Error("an unknown measure is accepted")
	}
	for only, want := range map[string]int{"veth-up1": 1, "veth-up1,rtt": 2, "loopback": 4} {
		if got, err := chooseMeasures(only); err != nil || len(got) != want {
			t.Errorf("%q chooses %d measures, want %d: %v", only, len(got), want, err)
		}
	}
}
