//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// write writes the report into a file that ends in .md, and its pictures into the directory of that
// name.
func (r *record) write(file string) error {
	pictures := strings.TrimSuffix(file, ".md")
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return fmt.Errorf("make the directory of the pictures: %w", err)
	}
	var b strings.Builder
	r.head(&b)
	r.reached(&b)
	for _, g := range plan() {
		if !slices.ContainsFunc(g.workloads, r.has) {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", g.title, g.text)
		if picture := r.picture(g); picture != "" {
			name := g.name + ".svg"
			if err := os.WriteFile(filepath.Join(pictures, name), []byte(picture), 0o644); err != nil {
				return fmt.Errorf("write a picture: %w", err)
			}
			fmt.Fprintf(&b, "\n![%s](%s/%s)\n", g.title, filepath.Base(pictures), name)
		}
		for _, w := range g.workloads {
			if r.has(w) {
				r.table(&b, w)
			}
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// has says whether anything was measured.
func (r *record) has(w workload) bool {
	return slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Workload == w.name })
}

// rounds says how many rounds there were: with -keep, more of some workloads or programs than of
// others.
func (r *record) rounds() string {
	of := map[[2]string]int{}
	for _, s := range r.Samples {
		key := [2]string{s.Workload, s.Peer}
		of[key] = max(of[key], s.Round)
	}
	if len(of) == 0 {
		return count(0, "round")
	}
	all := slices.Sorted(maps.Values(of))
	least, most := all[0], all[len(all)-1]
	if least == most {
		return count(most, "round")
	}
	return fmt.Sprintf("%d to %s", least, count(most, "round"))
}

func (r *record) head(b *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(b, `# Benchmarks

<!-- Written by make bench; what is changed here is lost. -->

adit beside other programs that carry TCP connections, measured on one machine in %s of
`+"`make bench`"+`. What depends on the machine are the figures; what can be compared are the ratios.

- Machine: %s, %d cores, %s of memory; %s, Linux %s; TCP with %s.
- Built with %s. %s.
- %s, %s interleaved: each has every program once with every workload, freshly started and alone.
  The machine's load average was %s before the first.
  Most workloads are measured for %s s after a start-up that is not.
- TLS 1.3 with AES-128-GCM (ssh: its own, with that; wstunnel cannot be told, and takes
  AES-256-GCM). Load generator, client, server and target
  share the machine. “no tunnel” shows what the generator does without one. On loopback its sockets
  are those that adit has for its own (package tunnel): with package net's it would take as long for a
  connection as the tunnels, and make them more alike than they are.
- A cell is the median, and in parentheses the least and the most. “adit” beside it is adit's median
  divided by that of the row. **Bold** is the best of a column. Every byte is counted at
  the other end, and two stamps in each 64 KiB are checked; a connection that fails makes its
  measurement fail, and the table says so.
`, count(max(r.Runs, 1), "run"), m.Processor, m.Cores, m.Memory, m.System, m.Kernel, m.Congestion, m.Go, m.Adit, r.Date, r.rounds(), r.Load, short(r.Seconds))
	if strings.HasPrefix(m.Congestion, "bbr") {
		b.WriteString("- BBR sends by timers. adit turns that off for connections within the machine, which the others cannot.\n")
	}
	if len(r.LeftOut) > 0 {
		fmt.Fprintf(b, "- Left out, because they need root: %s.\n", strings.Join(r.LeftOut, ", "))
	}
	b.WriteString("\n| program | version | |\n|---|---|---|\n")
	for _, p := range r.Peers {
		switch {
		case p.Absent != "":
			fmt.Fprintf(b, "| %s | absent: %s | %s |\n", p.Name, p.Absent, p.About)
		default:
			fmt.Fprintf(b, "| %s | %s | %s |\n", p.Name, cmp.Or(p.Version, "–"), p.About)
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// reached writes the table of goals, those of which there is a figure.
func (r *record) reached(b *strings.Builder) {
	var rows []string
	for _, g := range goals() {
		if text := r.goal(g); text != "" {
			rows = append(rows, text)
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Goals\n\nWhat adit is meant to do on such a machine, and what it does.\n\n| | goal | measured | reached |\n|---|---|---|---|\n%s", strings.Join(rows, ""))
}

func (r *record) goal(g goal) string {
	i := slices.IndexFunc(allWorkloads(), func(w workload) bool { return w.name == g.workload })
	w := allWorkloads()[i]
	ours := r.figure(w.name, w.ours(), g.key)
	if !ours.known() {
		return ""
	}
	got, than, unit := ours.median, "", ""
	if g.peer != "" {
		theirs := r.figure(g.workload, g.peer, g.key)
		if !theirs.known() {
			return ""
		}
		got /= theirs.median
		than, unit = " of "+g.peer, " ×"
	}
	bound, reached := "at least "+short(g.least), got >= g.least
	if g.most > 0 {
		bound, reached = "at most "+short(g.most), got <= g.most
	}
	word := "yes"
	if !reached {
		word = "**no**"
	}
	return fmt.Sprintf("| %s: %s | %s%s%s | %s | %s |\n", w.place(), w.column(g.key).title, bound, unit, than, short(got)+unit, word)
}

// place is the workload's title with that of its group.
func (w workload) place() string {
	for _, g := range plan() {
		if slices.ContainsFunc(g.workloads, func(v workload) bool { return v.name == w.name }) {
			return g.title + ", " + w.title
		}
	}
	return w.title
}

// table writes all figures of a workload.
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
		if peer == nameDirect && slices.Contains([]string{keyCPU, keyCost, keyNear, keyFar}, c.key) {
			text = "–" // there is no process
		}
		fmt.Fprintf(&b, " %s |", text)
		if !c.compared() {
			continue
		}
		ratio := "–"
		if ours := r.figure(w.name, w.ours(), c.key); peer != w.ours() && ours.known() && f.median > 0 {
			ratio = short(ours.median/f.median) + " ×"
		}
		fmt.Fprintf(&b, " %s |", ratio)
	}
	return b.String()
}

// compared says whether adit's figure is divided by the others': shares are not.
func (c column) compared() bool { return c.sense != neither && c.key != keyShare && c.key != keyUse }

// best returns the tunnel with the best median of a column.
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

// short writes a number with three digits.
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
