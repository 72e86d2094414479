//go:build linux

package main

import "slices"

// A figure is the median and the spread of a value over several rounds; the zero figure is unknown.
type figure struct {
	median, min, max float64
	rounds           int
}

func (f figure) known() bool { return f.rounds > 0 }

// figure returns the median and the spread of a value, over the rounds that did not fail.
func (r *record) figure(workload, peer, key string) figure {
	var all []float64
	for _, s := range r.Samples {
		if v, ok := s.Values[key]; ok && s.Failure == "" && s.Workload == workload && s.Peer == peer {
			all = append(all, v)
		}
	}
	return figureOf(all)
}

// figureOf returns the median and the spread of values, which it sorts.
func figureOf(all []float64) figure {
	if len(all) == 0 {
		return figure{}
	}
	slices.Sort(all)
	mid := all[len(all)/2]
	if len(all)%2 == 0 {
		mid = (mid + all[len(all)/2-1]) / 2
	}
	return figure{mid, all[0], all[len(all)-1], len(all)}
}

// ratio returns the median and the spread of one peer's value divided by another's, over the rounds
// in which both have one.
func (r *record) ratio(workload, peer, other, key string) figure {
	var all []float64
	for _, s := range r.Samples {
		if s.Workload != workload || s.Peer != peer || s.Failure != "" {
			continue
		}
		i := slices.IndexFunc(r.Samples, func(t sample) bool {
			return t.Workload == workload && t.Peer == other && t.Round == s.Round && t.Failure == ""
		})
		if i >= 0 && r.Samples[i].Values[key] != 0 {
			all = append(all, s.Values[key]/r.Samples[i].Values[key])
		}
	}
	return figureOf(all)
}
