//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// table writes the table of a workload.
func (r *record) table(b *strings.Builder, w workload) {
	fmt.Fprintf(b, "\n### %s\n\n|", capital(w.title))
	rule := "|---|"
	for _, c := range w.columns {
		fmt.Fprintf(b, " | %s", c.title)
		rule += "---:|"
		if c.compared() {
			b.WriteString(" | adit")
			rule += "---:|"
		}
	}
	fmt.Fprintf(b, " |\n%s\n", rule)
	columns := strings.Count(rule, "|") - 2
	var notes []string
	for _, p := range r.Peers {
		failed := 0
		why := ""
		for _, s := range r.Samples {
			if s.Workload == w.name && s.Peer == p.Name && s.Failure != "" {
				failed, why = failed+1, s.Failure
			}
		}
		if failed > 0 {
			first, _, _ := strings.Cut(why, "\n")
			notes = append(notes, fmt.Sprintf("%s failed in %s: %s", p.Name, count(failed, "round"), first))
		}
		if r.figure(w.name, p.Name, w.columns[0].key).known() {
			fmt.Fprintf(b, "| %s |%s\n", p.Name, r.cells(w, p.Name))
		} else if failed > 0 {
			fmt.Fprintf(b, "| %s | failed%s\n", p.Name, strings.Repeat(" |", columns))
		}
	}
	for _, n := range notes {
		fmt.Fprintf(b, "\n%s.\n", strings.TrimSuffix(n, "."))
	}
}

// cells returns the cells of a program's row.
func (r *record) cells(w workload, peer string) string {
	var b strings.Builder
	for _, c := range w.columns {
		f := r.figure(w.name, peer, c.key)
		text := short(f.median)
		if r.best(w, c) == peer {
			text = "**" + text + "**"
		}
		if f.rounds > 1 && c.sense != neither {
			text += fmt.Sprintf(" (%s–%s)", short(f.min), short(f.max))
		}
		if peer == nameDirect && slices.Contains([]string{keyCPU, keyCost, keyClient, keyServer}, c.key) {
			text = "–" // it has no process
		}
		fmt.Fprintf(&b, " %s |", text)
		if !c.compared() {
			continue
		}
		ratio := "–"
		if of := r.ratio(w.name, w.adit(), peer, c.key); peer != w.adit() && of.known() {
			ratio = short(of.median) + " ×"
		}
		fmt.Fprintf(&b, " %s |", ratio)
	}
	return b.String()
}

// compared reports whether adit's figure is divided by those of others: shares are not.
func (c column) compared() bool { return c.sense != neither && c.key != keyShare && c.key != keyUse }

// best returns the program with the best median of a column.
func (r *record) best(w workload, c column) (name string) {
	best := math.NaN()
	for _, p := range r.Peers {
		f := r.figure(w.name, p.Name, c.key)
		if p.Name == nameDirect || !f.known() || c.sense == neither {
			continue
		}
		if math.IsNaN(best) || c.sense == moreIsBetter && f.median > best || c.sense == lessIsBetter && f.median < best {
			best, name = f.median, p.Name
		}
	}
	return name
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// short returns a number with three significant digits.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a == 0 || math.IsNaN(v) || math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	default:
		digits := min(2-int(math.Floor(math.Log10(a))), 6)
		s := strconv.FormatFloat(v, 'f', digits, 64)
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
}
