//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// report writes a table with a row for every figure of every binary and each program that it is
// compared with. The ratio is the median of the ratios of the rounds, with the least and the most.
func (c *comparison) report(w io.Writer) {
	fmt.Fprintf(w, "%s, medians of %s, TCP over veth with %s\n\n", c.record.Date, count(c.rounds, "round"),
		cmp.Or(c.control, "the machine's congestion control"))
	fmt.Fprint(w, "| measure | figure | program | median | compared with | median | ratio | bound | held |\n|---|---|---|---:|---|---:|---:|---|---|\n")
	first := c.binaries[0].name
	for _, m := range c.measures {
		for _, key := range m.keys {
			for _, p := range c.binaries {
				others := []string{first}
				for _, b := range m.bounds {
					if b.key == key && b.of != ofFirst {
						others = append(others, b.of)
					}
				}
				for _, other := range others {
					if other != p.name {
						c.row(w, m, key, p.name, other)
					}
				}
			}
		}
	}
}

func (c *comparison) row(w io.Writer, m measure, key, name, other string) {
	ours, theirs := c.record.figure(m.name, name, key), c.record.figure(m.name, other, key)
	if !ours.known() {
		return
	}
	ratio := c.record.ratio(m.name, name, other, key)
	text := "–"
	if ratio.known() {
		text = fmt.Sprintf("%s (%s–%s)", short(ratio.median), short(ratio.min), short(ratio.max))
	}
	limit, held := "", ""
	for _, b := range m.bounds {
		if b.key != key || b.of != other && (b.of != ofFirst || other != c.binaries[0].name) {
			continue
		}
		limit = "≥ " + short(b.least)
		ok := ratio.median >= b.least
		if b.most > 0 {
			limit = "≤ " + short(b.most)
			ok = ratio.median <= b.most
		}
		switch {
		case !ratio.known():
			held = "not measured"
		case ok:
			held = "yes"
		default:
			held = "**no**"
		}
	}
	fmt.Fprintf(w, "| %s, %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
		m.place(), m.title, key, name, short(ours.median), other, short(theirs.median), text, limit, held)
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
