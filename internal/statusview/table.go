package statusview

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"adit/internal/logline"
	"adit/internal/metrics"
	"adit/internal/units"
)

// table computes cells from the times of one document.
type table struct {
	now   time.Time
	since time.Duration // since the previous document; 0: there is none
}

func (t *table) age(from time.Time) string { return units.Age(t.now.Sub(from)) }

// rate returns the growth of a counter per second since the previous document.
func (t *table) rate(now, before uint64) string {
	if t.since <= 0 || now < before {
		return "-"
	}
	return units.Decimal(float64(now-before)/t.since.Seconds()) + "/s"
}

// link returns the cells of a session that servers and clients share.
func (t *table) link(l, before metrics.Link, opened time.Time) []string {
	rtt := "-"
	switch {
	case !l.Connected:
		rtt = "disconnected"
	case l.RTT > 0:
		rtt = fmt.Sprintf("%.3g ms", l.RTT*1000)
	}
	return []string{
		fmt.Sprint(l.Streams), units.Decimal(float64(l.Received)), units.Decimal(float64(l.Sent)),
		t.rate(l.Received, before.Received), t.rate(l.Sent, before.Sent), rtt, fmt.Sprint(l.Resumes), t.age(opened),
	}
}

// maxStreams is how many streams a table shows.
const maxStreams = 20

// ownedStream is a stream with the user or the server of its session.
type ownedStream struct {
	owner string
	metrics.Stream
}

// streams returns the table of streams, those with the most bytes first.
func (t *table) streams(owner string, list []ownedStream) [][]string {
	rows := [][]string{{owner, "TARGET", "AGE", "RECEIVED", "SENT"}}
	slices.SortStableFunc(list, func(a, b ownedStream) int { return cmp.Compare(b.Received+b.Sent, a.Received+a.Sent) })
	for i, x := range list {
		if i == maxStreams {
			return append(rows, []string{fmt.Sprintf("and %d more: adit status --json", len(list)-i), "", "", "", ""})
		}
		rows = append(rows, []string{x.owner, x.Target, t.age(x.Opened), units.Decimal(float64(x.Received)), units.Decimal(float64(x.Sent))})
	}
	return rows
}

func summary(links []metrics.Link) string {
	streams, queued, unacknowledged, down := 0, 0, 0, 0
	for _, l := range links {
		streams += l.Streams
		queued += l.Queued
		unacknowledged += l.Unacknowledged
		if !l.Connected {
			down++
		}
	}
	text := fmt.Sprintf("%s, %s, %s queued, %s unacknowledged", plural(len(links), "session"), plural(streams, "stream"), units.Decimal(float64(queued)), units.Decimal(float64(unacknowledged)))
	if down > 0 {
		text += fmt.Sprintf(", %d disconnected", down)
	}
	return text
}

func total(parts ...metrics.Traffic) string {
	var all metrics.Traffic
	for _, p := range parts {
		all.Received += p.Received
		all.Sent += p.Sent
		all.Resumes += p.Resumes
		all.Replayed += p.Replayed
	}
	return fmt.Sprintf("%s received, %s sent, %s", units.Decimal(float64(all.Received)), units.Decimal(float64(all.Sent)), plural(all.Resumes, "resume"))
}

// trouble counts failures of one kind, by reason.
type trouble struct {
	name   string
	counts map[string]uint64
}

// troubleRows returns a row for each kind that has occurred.
func troubleRows(list []trouble) [][]string {
	var rows [][]string
	for _, x := range list {
		if some := nonZero(x.counts); len(some) > 0 {
			rows = append(rows, []string{x.name, strings.Join(some, ", ")})
		}
	}
	return rows
}

// only returns the counts of some names.
func only(counts map[string]uint64, names ...string) map[string]uint64 {
	some := make(map[string]uint64)
	for _, name := range names {
		some[name] = counts[name]
	}
	return some
}

// nonZero lists the counts that are not zero, by name.
func nonZero(counts map[string]uint64) []string {
	var some []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			some = append(some, fmt.Sprintf("%s %d", name, counts[name]))
		}
	}
	return some
}

func sumOf(counts map[string]uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// writeSection writes an empty line and a table, or nothing when the table has
// only a header.
func writeSection(b *bytes.Buffer, rows [][]string) {
	if len(rows) > 1 {
		b.WriteByte('\n')
		writeRows(b, rows)
	}
}

// writeRows writes rows in aligned columns. It makes the cells printable: some
// text in them comes from other machines. A pair without a value is left out.
func writeRows(b *bytes.Buffer, rows [][]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if row[len(row)-1] == "" && len(row) == 2 {
			continue
		}
		for i, cell := range row {
			row[i] = logline.Printable(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

func plural[T int | uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
