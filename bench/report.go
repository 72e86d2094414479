//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// write writes the report into a file that ends in .md, and its charts into the directory of that name
// without .md. What the file has before marker stays.
func (r *record) write(file string) error {
	charts := strings.TrimSuffix(file, ".md")
	if err := os.MkdirAll(charts, 0o755); err != nil {
		return fmt.Errorf("make the directory of the charts: %w", err)
	}
	var b strings.Builder
	b.WriteString(introduction(file))
	r.head(&b)
	r.goals(&b)
	for _, g := range plan() {
		if !slices.ContainsFunc(g.workloads, r.has) {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", g.title, g.text)
		if chart := r.chart(g); chart != "" {
			name := g.name + ".svg"
			if err := os.WriteFile(filepath.Join(charts, name), []byte(chart), 0o644); err != nil {
				return fmt.Errorf("write a chart: %w", err)
			}
			fmt.Fprintf(&b, "\n![%s](%s/%s)\n", g.title, filepath.Base(charts), name)
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

// marker is the line of a report before which make bench changes nothing.
const marker = "<!-- The rest is written by make bench. -->\n"

// introduction returns what a report has up to the marker, or a title if there is no report.
func introduction(file string) string {
	old, _ := os.ReadFile(file)
	if before, _, found := strings.Cut(string(old), marker); found {
		return before + marker
	}
	return "# Benchmarks\n\n" + marker
}

// has reports whether the workload was measured.
func (r *record) has(w workload) bool {
	return slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Workload == w.name })
}

// rounds returns the number of rounds as text. With -keep, it differs between workloads.
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
	fmt.Fprintf(b, `
## adit beside other programs

Measured on one machine in %s of `+"`make bench`"+`. The figures depend on the machine; the ratios can be
compared.

- Machine: %s, %d cores, %s of memory; %s, Linux %s; TCP with %s.
- Built with %s. %s.
- %s, %s. In each round, the programs of a path are started and take turns with each workload.
  The load average of the machine was %s before the first round. Most workloads are measured for
  %s s, after a start-up that is not.
- TLS 1.3 with AES-128-GCM (ssh: its own protocol with that cipher; wstunnel takes AES-256-GCM). Load
  generator, client, server and target share the machine. “No tunnel” is the load generator alone.
- A cell is the median, and in parentheses the least and the most. The column “adit” is the median of
  the ratios of adit's value to that of the row in the same round. **Bold** is the best of a column.
  Every byte is counted at the other end, and two stamps in each 64 KiB are checked; a connection
  that fails makes its measurement fail, and the table says so.
`, count(max(r.Runs, 1), "run"), m.Processor, m.Cores, m.Memory, m.System, m.Kernel, m.Congestion, m.Go, m.Adit, r.Date, r.rounds(), r.Load, short(r.Seconds))
	if len(r.LeftOut) > 0 {
		fmt.Fprintf(b, "- Not measured, because they need root: %s.\n", strings.Join(r.LeftOut, ", "))
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

// goals writes the table of those goals that were measured.
func (r *record) goals(b *strings.Builder) {
	var rows []string
	for _, g := range goals() {
		if text := r.goal(g); text != "" {
			rows = append(rows, text)
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n### Goals\n\n| | goal | measured | reached |\n|---|---|---|---|\n%s", strings.Join(rows, ""))
	}
}

// goal returns a row of the table of goals, "" if the goal was not measured.
func (r *record) goal(g goal) string {
	i := slices.IndexFunc(allWorkloads(), func(w workload) bool { return w.name == g.workload })
	w := allWorkloads()[i]
	got, unit, of := r.figure(w.name, w.adit(), g.key), "", ""
	if g.peer != "" {
		got, unit, of = r.ratio(w.name, w.adit(), g.peer, g.key), " ×", " of "+g.peer
	}
	if !got.known() {
		return ""
	}
	return fmt.Sprintf("| %s: %s | %s%s%s | %s | %s |\n", w.place(), w.column(g.key).title,
		g.bound(), unit, of, short(got.median)+unit, g.reached(got.median))
}

// place returns the titles of the workload's group and of the workload.
func (w workload) place() string { return groupOf(w.name).title + ", " + w.title }
