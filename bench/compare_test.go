//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCompare compares a binary with itself for a moment with every workload that has a goal relative
// to another binary or peer.
func TestCompare(t *testing.T) {
	adit := aditBinary(t)
	c := comparison{rounds: 1, turn: 50 * time.Millisecond, record: new(record)}
	var err error
	if c.binaries, err = parseBinaries([]string{"a=" + adit, "b=" + adit}); err != nil {
		t.Fatal(err)
	}
	only := "rtt,new1,beside-up"
	if needNamespaces(t) {
		only += ",veth-up1,veth-down8"
	}
	if c.workloads, err = chooseWorkloads(only); err != nil {
		t.Fatal(err)
	}
	if err := c.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, failure := range c.record.failures() {
		t.Errorf("%+v", failure)
	}
	var report strings.Builder
	c.report(&report)
	for _, w := range c.workloads {
		for _, p := range c.binaries {
			if f := c.record.figure(w.name, p.name, w.columns[0].key); f.rounds != 1 || f.median <= 0 {
				t.Errorf("%s of %s is %+v", w.name, p.name, f)
			}
		}
		if want := "| " + w.place() + " |"; !strings.Contains(report.String(), want) {
			t.Errorf("the report has no row %q", want)
		}
	}
	if left := descendants(os.Getpid()); len(left) != 1 {
		t.Errorf("processes are left: %+v", left[1:])
	}
}

// A row says whether a goal is reached.
func TestCompareReport(t *testing.T) {
	workloads, err := chooseWorkloads("veth-up1")
	if err != nil {
		t.Fatal(err)
	}
	c := comparison{binaries: []*peer{{name: "before"}, {name: "after"}}, workloads: workloads, rounds: 1, record: new(record)}
	for name, v := range map[string]values{"before": {keyRate: 100, keyCPU: 3}, "after": {keyRate: 90, keyCPU: 3.5}} {
		c.record.Samples = append(c.record.Samples, sample{"veth-up1", name, 1, v, ""})
	}
	var b strings.Builder
	c.report(&b)
	for _, want := range []string{
		"| after | 90 | before | 100 | 0.9 (0.9–0.9) | at least 0.95 | **no** |",
		"| after | 3.5 | before | 3 | 1.17 (1.17–1.17) | at most 1.3 | yes |",
		"| after | 3.5 | stunnel | 0 | – | at most 1 | not measured |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &b)
		}
	}
}

func TestParseBinaries(t *testing.T) {
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
}
