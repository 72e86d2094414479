package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"adit/admin"
	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// writeTable writes a document for people.
func (s *statusSource) writeTable(b *bytes.Buffer, body []byte) error {
	var head admin.Head
	if err := json.Unmarshal(body, &head); err != nil {
		return fmt.Errorf("the status of %s: %w", s.address, err)
	}
	t := &statusTable{now: head.Time}
	state := "ready"
	if !head.Ready {
		state = "NOT READY: " + head.Reason
	}
	fmt.Fprintf(b, "%s\n", printableText(fmt.Sprintf("adit %s %s, up %s, %s (%s)", head.Role, head.Version, t.age(head.Started), state, s.address)))
	var err error
	if head.Role == "client" {
		err = s.writeClient(b, t, body)
	} else {
		err = s.writeServer(b, t, body)
	}
	if err != nil {
		return fmt.Errorf("the status of %s: %w", s.address, err)
	}
	return nil
}

// statusTable has what cells need.
type statusTable struct {
	now   time.Time
	since time.Duration // between the last answer and this one; 0: there is none
}

func (t *statusTable) age(from time.Time) string { return roughly(t.now.Sub(from)) }

// rate is how fast a counter goes.
func (t *statusTable) rate(now, before uint64) string {
	if t.since <= 0 || now < before {
		return "-"
	}
	return byteCount(float64(now-before)/t.since.Seconds()) + "/s"
}

func (s *statusSource) writeServer(b *bytes.Buffer, t *statusTable, body []byte) error {
	var d admin.ServerDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return err
	}
	before := make(map[string]server.SessionStatus)
	routes := make(map[string]server.RouteStatus)
	if s.before != nil {
		t.since = d.Time.Sub(s.before.Time)
		for _, x := range s.before.Sessions {
			before[x.ID] = x
		}
		for _, r := range s.before.Routes {
			routes[r.Route] = r
		}
	}
	s.before = &d

	var listen, certificates []string
	for _, l := range d.Listeners {
		listen = append(listen, l.Address+map[bool]string{true: " with TLS", false: " without TLS"}[l.TLS])
	}
	for _, c := range d.Certificates {
		left := "expires in " + roughly(c.Expires.Sub(d.Time))
		if c.Expires.Before(d.Time) {
			left = "HAS EXPIRED"
		}
		certificates = append(certificates, c.Name+" "+left)
	}
	traffic := slices.Collect(maps.Values(d.Counts.Users))
	var links []metrics.Link
	for _, x := range d.Sessions {
		links = append(links, x.Link)
	}
	facts := [][]string{
		{"listening", strings.Join(listen, ", ")},
		{"certificate", strings.Join(certificates, ", ")},
		{"now", t.summary(links)},
		{"in all", fmt.Sprintf("%s, %s, %s", plural(d.Counts.SessionsOpened, "session"), plural(d.Counts.StreamsOpened, "stream"), t.total(traffic...))},
	}
	routeRefusals := make(map[string]uint64)
	for _, r := range d.Routes {
		for reason, n := range r.Refused {
			routeRefusals[reason] += n
		}
	}
	writeRows(b, append(facts, t.trouble([]trouble{
		{"sessions ended", only(d.Counts.SessionsEnded, "lost", "protocol")},
		{"sessions refused", d.Counts.SessionsRefused},
		{"handshakes failed", d.Counts.HandshakeFailures},
		{"streams refused", d.Counts.StreamsRefused},
		{"connections rejected", d.Counts.Rejected},
		{"routes refused", routeRefusals},
	})...))

	rows := [][]string{{"USER", "FROM", "STREAMS", "RECEIVED", "SENT", "IN", "OUT", "RTT", "RESUMES", "AGE"}}
	slices.SortStableFunc(d.Sessions, func(x, y server.SessionStatus) int { return cmp.Compare(x.User, y.User) })
	for _, x := range d.Sessions {
		rows = append(rows, append([]string{x.User, x.Address}, t.link(x.Link, before[x.ID].Link, x.Opened)...))
	}
	writeSection(b, rows)

	rows = [][]string{{"ROUTE", "BACKENDS", "CONNECTIONS", "OPENED", "REFUSED", "RECEIVED", "SENT", "IN", "OUT"}}
	for _, r := range d.Routes {
		var backends []string
		for _, k := range r.Backends {
			name := k.Name
			if k.Failed {
				name += " (failed)"
			}
			backends = append(backends, name)
		}
		old := routes[r.Route]
		rows = append(rows, []string{
			r.Route, strings.Join(backends, ", "), fmt.Sprint(r.Connections), fmt.Sprint(r.Opened), fmt.Sprint(sumOf(r.Refused)),
			byteCount(float64(r.Received)), byteCount(float64(r.Sent)), t.rate(r.Received, old.Received), t.rate(r.Sent, old.Sent),
		})
	}
	writeSection(b, rows)
	return nil
}

func (s *statusSource) writeClient(b *bytes.Buffer, t *statusTable, body []byte) error {
	var d admin.ClientDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return err
	}
	before := make(map[string]client.SessionStatus)
	if s.then != nil {
		t.since = d.Time.Sub(s.then.Time)
		for _, x := range s.then.Sessions {
			before[fmt.Sprint(x.ID)] = x
		}
	}
	s.then = &d

	link := fmt.Sprintf("down for %s: %s", t.age(d.Link.Since), d.Link.Error)
	if d.Link.Up {
		link = fmt.Sprintf("up for %s, to %s", t.age(d.Link.Since), d.Link.Server)
	}
	var links []metrics.Link
	for _, x := range d.Sessions {
		links = append(links, x.Link)
	}
	writeRows(b, append([][]string{
		{"link", link},
		{"now", t.summary(links)},
		{"in all", fmt.Sprintf("%s, %s", plural(d.Counts.SessionsOpened, "session"), t.total(d.Counts.Traffic))},
	}, t.trouble([]trouble{
		{"sessions ended", only(d.Counts.SessionsEnded, "lost", "protocol", "revoked")},
		{"handshakes failed", d.Counts.HandshakeFailures},
	})...))

	rows := [][]string{{"SERVER", "ADDRESS", "STREAMS", "RECEIVED", "SENT", "IN", "OUT", "RTT", "RESUMES", "AGE"}}
	for _, x := range d.Sessions {
		rows = append(rows, append([]string{x.Server, x.Address}, t.link(x.Link, before[fmt.Sprint(x.ID)].Link, x.Opened)...))
	}
	writeSection(b, rows)

	rows = [][]string{{"FORWARD", "TARGET", "CONNECTIONS", "OPENED", "REFUSED"}}
	for _, f := range d.Forwards {
		rows = append(rows, []string{f.Listen, f.Target, fmt.Sprint(f.Connections), fmt.Sprint(f.Opened), strings.Join(nonZero(f.Refused), ", ")})
	}
	writeSection(b, rows)
	return nil
}

// link is the cells of a session that both ends have.
func (t *statusTable) link(l, before metrics.Link, opened time.Time) []string {
	rtt := "-"
	switch {
	case !l.Connected:
		rtt = "no link"
	case l.RTT > 0:
		rtt = fmt.Sprintf("%.3g ms", l.RTT*1000)
	}
	return []string{
		fmt.Sprint(l.Streams), byteCount(float64(l.Received)), byteCount(float64(l.Sent)),
		t.rate(l.Received, before.Received), t.rate(l.Sent, before.Sent), rtt, fmt.Sprint(l.Resumes), t.age(opened),
	}
}

func (t *statusTable) summary(links []metrics.Link) string {
	streams, queued, unacknowledged, down := 0, 0, 0, 0
	for _, l := range links {
		streams += l.Streams
		queued += l.Queued
		unacknowledged += l.Unacknowledged
		if !l.Connected {
			down++
		}
	}
	text := fmt.Sprintf("%s, %s, %s queued, %s unacknowledged", plural(len(links), "session"), plural(streams, "stream"), byteCount(float64(queued)), byteCount(float64(unacknowledged)))
	if down > 0 {
		text += fmt.Sprintf(", %d without a link", down)
	}
	return text
}

func (t *statusTable) total(parts ...metrics.Traffic) string {
	var all metrics.Traffic
	for _, p := range parts {
		all.Received += p.Received
		all.Sent += p.Sent
		all.Resumes += p.Resumes
		all.Replayed += p.Replayed
	}
	return fmt.Sprintf("%s received, %s sent, %s", byteCount(float64(all.Received)), byteCount(float64(all.Sent)), plural(all.Resumes, "resume"))
}

// trouble is a kind of thing that should not happen often.
type trouble struct {
	name   string
	counts map[string]uint64
}

func (t *statusTable) trouble(list []trouble) [][]string {
	var rows [][]string
	for _, x := range list {
		if some := nonZero(x.counts); len(some) > 0 {
			rows = append(rows, []string{x.name, strings.Join(some, ", ")})
		}
	}
	return rows
}

// only is the counts of some names.
func only(counts map[string]uint64, names ...string) map[string]uint64 {
	some := make(map[string]uint64)
	for _, name := range names {
		some[name] = counts[name]
	}
	return some
}

// nonZero lists what has happened, by name.
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

// writeSection writes a table below an empty line; one without rows, which has
// only its head, is left out.
func writeSection(b *bytes.Buffer, rows [][]string) {
	if len(rows) > 1 {
		b.WriteByte('\n')
		writeRows(b, rows)
	}
}

// writeRows aligns columns. What is in the cells comes from other machines, too.
func writeRows(b *bytes.Buffer, rows [][]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if row[len(row)-1] == "" && len(row) == 2 {
			continue // a fact that is not there
		}
		for i, cell := range row {
			row[i] = printableText(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // into memory
}

func plural[T int | uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// byteCount is 1.2 MB for 1234567.
func byteCount(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	if i == 0 || n >= 99.95 {
		return fmt.Sprintf("%.0f %s", n, units[i])
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// roughly is a duration in its two largest units.
func roughly(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch day := 24 * time.Hour; {
	case d >= day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
