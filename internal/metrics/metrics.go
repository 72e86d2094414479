// Package metrics has what server and client count with, and what they have in
// common to show. It knows nothing of the form in which that is read; package
// admin does.
package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Other is what counts under a name that is not one of the set.
const Other = "other"

// Tally counts events by name: a reason, a result. The names are a fixed set, so
// that nobody outside can make it grow. Make one with NewTally.
type Tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// NewTally makes a tally of the given names and Other, all zero.
func NewTally(names ...string) *Tally {
	t := &Tally{counts: map[string]uint64{Other: 0}}
	for _, name := range names {
		t.counts[name] = 0
	}
	return t
}

// Add counts one event.
func (t *Tally) Add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.counts[name]; !known {
		name = Other
	}
	t.counts[name]++
}

// Counts is a copy of all counts, also of those that are zero.
func (t *Tally) Counts() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// buckets are the upper bounds of a Durations, in seconds: from what a
// neighbour in the rack takes to the usual time limit of a dial.
var buckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Durations is a histogram of durations for each result of what took them. The
// results are a fixed set. Make one with NewDurations.
type Durations struct {
	mu       sync.Mutex
	byResult map[string]*histogram
}

type histogram struct {
	counts [len(buckets)]uint64 // above the bound before, up to this one
	all    uint64
	sum    time.Duration
}

// NewDurations makes an empty histogram for each of the results and Other.
func NewDurations(results ...string) *Durations {
	d := &Durations{byResult: map[string]*histogram{Other: {}}}
	for _, r := range results {
		d.byResult[r] = &histogram{}
	}
	return d
}

// Add counts one duration.
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

// Distribution is how long something has taken so far.
type Distribution struct {
	Count  uint64
	Sum    float64            // seconds
	Within map[float64]uint64 // how many took at most so many seconds
}

// Distributions are by result.
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

// Reloads counts how often the configuration was read again. The zero value is
// ready for use.
type Reloads struct {
	good, bad atomic.Uint64
	last      atomic.Int64 // Unix seconds; 0: never
}

// Note counts one reload. One that is not good has changed nothing.
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
	Last time.Time `json:"last"` // of the last good one; when the process started if there was none
}

// Counts says how it went; started is when the process did.
func (r *Reloads) Counts(started time.Time) ReloadCounts {
	c := ReloadCounts{Good: r.good.Load(), Bad: r.bad.Load(), Last: started}
	if s := r.last.Load(); s != 0 {
		c.Last = time.Unix(s, 0).UTC()
	}
	return c
}
