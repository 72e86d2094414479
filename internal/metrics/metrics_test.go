package metrics

import (
	"maps"
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	c := NewTally("a", "b")
	c.Add("a")
	c.Add("a")
	c.Add("from a peer")
	want := map[string]uint64{"a": 2, "b": 0, Other: 1}
	if got := c.Counts(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	c.Counts()["b"] = 7
	if got := c.Counts(); !maps.Equal(got, want) {
		t.Errorf("changing a copy changed the counts: %v", got)
	}
}

func TestDurations(t *testing.T) {
	d := NewDurations("connected", "refused")
	d.Add("connected", time.Millisecond) // buckets include their bound
	d.Add("connected", 30*time.Millisecond)
	d.Add("connected", time.Minute)
	d.Add("from a peer", time.Second)
	all := d.Distributions()
	if len(all) != 3 || all["refused"].Count != 0 || all[Other].Count != 1 {
		t.Errorf("%v", all)
	}
	got := all["connected"]
	if got.Count != 3 || got.Sum != 60.031 {
		t.Errorf("count %d, sum %v", got.Count, got.Sum)
	}
	for bound, want := range map[float64]uint64{0.001: 1, 0.025: 1, 0.05: 2, 10: 2} {
		if got.Within[bound] != want {
			t.Errorf("%d within %v s, want %d", got.Within[bound], bound, want)
		}
	}
	if len(got.Within) != len(buckets) {
		t.Errorf("%d buckets", len(got.Within))
	}
}

func TestReloads(t *testing.T) {
	started := time.Now().Add(-time.Hour)
	var r Reloads
	if got := r.Counts(started); got != (ReloadCounts{Last: started}) {
		t.Errorf("initially %+v", got)
	}
	r.Note(false)
	r.Note(true)
	got := r.Counts(started)
	if got.Good != 1 || got.Bad != 1 || !got.Last.After(started) {
		t.Errorf("%+v", got)
	}
}
