// Package metrics has the counters and histograms of server and client, and the
// parts of their status that both share. Package admin exports them; this
// package does not know Prometheus.
package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Other is the name under which Tally and Durations count unknown names.
const Other = "other"

// Tally counts events by name, such as a reason or a result. The set of names is
// fixed, so that peers cannot make it grow. Make one with NewTally. It is safe
// for concurrent use.
type Tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// NewTally returns a tally of the given names and Other, all zero.
func NewTally(names ...string) *Tally {
	t := &Tally{counts: map[string]uint64{Other: 0}}
	for _, name := range names {
		t.counts[name] = 0
	}
	return t
}

// Add counts one event under name, or under Other if the name is unknown.
func (t *Tally) Add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.counts[name]; !known {
		name = Other
	}
	t.counts[name]++
}

// Counts returns a copy of all counts, including zeros.
func (t *Tally) Counts() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// Tallies are tallies of the same names, one for each key, such as a user. The caller
// takes keys from a set that peers cannot make grow. Make one with NewTallies. It is
// safe for concurrent use.
type Tallies struct {
	names []string

	mu    sync.Mutex
	byKey map[string]*Tally
}

// NewTallies returns Tallies without keys.
func NewTallies(names ...string) *Tallies {
	return &Tallies{names: names, byKey: make(map[string]*Tally)}
}

// Of returns the tally of a key.
func (t *Tallies) Of(key string) *Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[key] == nil {
		t.byKey[key] = NewTally(t.names...)
	}
	return t.byKey[key]
}

// Counts returns a copy of all counts, and their sums over the keys by name.
func (t *Tallies) Counts() (byKey map[string]map[string]uint64, sums map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	byKey, sums = make(map[string]map[string]uint64, len(t.byKey)), NewTally(t.names...).Counts()
	for key, tally := range t.byKey {
		byKey[key] = tally.Counts()
		for name, n := range byKey[key] {
			sums[name] += n
		}
	}
	return byKey, sums
}

// buckets are the upper bounds of a histogram, in seconds: from a host in the
// same rack to the usual dial timeout.
var buckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Durations is a histogram of durations for each of a fixed set of results. Make
// one with NewDurations. It is safe for concurrent use.
type Durations struct {
	mu       sync.Mutex
	byResult map[string]*histogram
}

type histogram struct {
	counts [len(buckets)]uint64 // durations up to this bound and above the previous one
	all    uint64               // including those above the last bound
	sum    time.Duration
}

// NewDurations returns empty histograms for the given results and Other.
func NewDurations(results ...string) *Durations {
	d := &Durations{byResult: map[string]*histogram{Other: {}}}
	for _, r := range results {
		d.byResult[r] = &histogram{}
	}
	return d
}

// Add counts one duration under result, or under Other if that is unknown.
func (d *Durations) Add(result string, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.byResult[result]
	if h == nil {
		h = d.byResult[Other]
	}
	for i, bound := range buckets {
		if took.Seconds() <= bound {
			h.counts[i]++
			break
		}
	}
	h.all++
	h.sum += took
}

// Distribution is the state of a histogram.
type Distribution struct {
	Count  uint64
	Sum    float64            // in seconds
	Within map[float64]uint64 // by bucket: how many took at most so many seconds
}

// Distributions returns a copy of the histograms by result.
func (d *Durations) Distributions() map[string]Distribution {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]Distribution, len(d.byResult))
	for result, h := range d.byResult {
		out := Distribution{Count: h.all, Sum: h.sum.Seconds(), Within: make(map[float64]uint64, len(buckets))}
		var within uint64
		for i, bound := range buckets {
			within += h.counts[i]
			out.Within[bound] = within
		}
		all[result] = out
	}
	return all
}

// Reloads counts reloads of the configuration. The zero value is ready for use.
// It is safe for concurrent use.
type Reloads struct {
	good, bad atomic.Uint64
	last      atomic.Int64 // Unix seconds; 0: none succeeded
}

// Note counts one reload, which succeeded if good is true.
func (r *Reloads) Note(good bool) {
	if !good {
		r.bad.Add(1)
		return
	}
	r.good.Add(1)
	r.last.Store(time.Now().Unix())
}

// ReloadCounts are the reloads since the process started.
type ReloadCounts struct {
	Good uint64    `json:"good"`
	Bad  uint64    `json:"bad"`
	Last time.Time `json:"last"` // of the last successful reload, or the start of the process
}

// Counts returns the counts; started is when the process started.
func (r *Reloads) Counts(started time.Time) ReloadCounts {
	c := ReloadCounts{Good: r.good.Load(), Bad: r.bad.Load(), Last: started}
	if s := r.last.Load(); s != 0 {
		c.Last = time.Unix(s, 0).UTC()
	}
	return c
}
