package admin

import (
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// registry returns a registry of the process's metrics: adit's, Go's and the
// operating system's.
func (a *Admin) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), a)
	return r
}

// Describe implements prometheus.Collector.
func (a *Admin) Describe(ch chan<- *prometheus.Desc) {
	own := serverOnly
	if a.cfg.Client != nil {
		own = clientOnly
	}
	for _, d := range slices.Concat(bothEnds, own) {
		ch <- d
	}
}

// Collect implements prometheus.Collector. All values come from one snapshot
// of the server's or client's status.
func (a *Admin) Collect(ch chan<- prometheus.Metric) {
	out := sink(ch)
	if a.cfg.Client != nil {
		st := a.cfg.Client.Status()
		out.head(a.head("client"))
		out.client(st)
		return
	}
	st := a.cfg.Server.Status()
	out.head(a.head("server"))
	out.server(st)
	out.counter(auditLost, a.cfg.AuditLost())
	for _, c := range a.cfg.Certificates() {
		out.gauge(certExpiry, float64(c.Expires.Unix()), c.Name)
	}
}

// sink receives the metrics of one Collect.
type sink chan<- prometheus.Metric

func (out sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, valid(labels)...)
}

func (out sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), valid(labels)...)
}

// tally sends one counter per name, which is the value of the last label.
func (out sink) tally(d *prometheus.Desc, counts map[string]uint64, labels ...string) {
	for name, n := range counts {
		out.counter(d, n, append(slices.Clone(labels), name)...)
	}
}

// durations sends one histogram per result. It omits results that have not
// occurred, because a histogram is many lines.
func (out sink) durations(to string, byResult map[string]metrics.Distribution) {
	for result, d := range byResult {
		if d.Count == 0 && result != "connected" {
			continue
		}
		out <- prometheus.MustNewConstHistogram(dialDurations, d.Count, d.Sum, d.Within, to, result)
	}
}

// valid makes the labels valid UTF-8, as the format requires; names in a
// configuration may not be.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return labels
}

func (out sink) flag(d *prometheus.Desc, on bool) {
	v := 0.0
	if on {
		v = 1
	}
	out.gauge(d, v)
}

func (out sink) head(h Head) {
	out.gauge(buildInfo, 1, h.Version, runtime.Version())
	out.flag(isReady, h.Ready)
	out.counter(reloads, h.Reloads.Good, "success")
	out.counter(reloads, h.Reloads.Bad, "failure")
	out.gauge(reloadedAt, float64(h.Reloads.Last.Unix()))
}

// links sends totals over all sessions, and the least and largest round-trip time.
func (out sink) links(links []metrics.Link) {
	var queuedBytes, unackedBytes, down int
	var times []float64
	for _, l := range links {
		queuedBytes += l.Queued
		unackedBytes += l.Unacknowledged
		if !l.Connected {
			down++
		}
		if l.RTT > 0 {
			times = append(times, l.RTT)
		}
	}
	out.gauge(queued, float64(queuedBytes))
	out.gauge(unacked, float64(unackedBytes))
	out.gauge(disconnected, float64(down))
	if len(times) == 0 {
		return
	}
	out.gauge(rttMin, slices.Min(times))
	out.gauge(rttMax, slices.Max(times))
}

func (out sink) traffic(t metrics.Traffic) {
	out.counter(resumes, t.Resumes)
	out.counter(replayed, t.Replayed)
}

func (out sink) server(st server.Status) {
	out.flag(draining, st.Draining)
	perUser := make(map[string]*struct{ sessions, streams int })
	for user := range st.Counts.Users {
		perUser[user] = &struct{ sessions, streams int }{}
	}
	var links []metrics.Link
	for _, s := range st.Sessions {
		perUser[s.User].sessions++
		perUser[s.User].streams += s.Streams
		links = append(links, s.Link)
	}
	out.links(links)
	var all metrics.Traffic
	for user, t := range st.Counts.Users {
		out.gauge(sessions, float64(perUser[user].sessions), user)
		out.gauge(streams, float64(perUser[user].streams), user)
		out.counter(userBytes, t.Received, user, "received")
		out.counter(userBytes, t.Sent, user, "sent")
		all.Resumes += t.Resumes
		all.Replayed += t.Replayed
	}
	out.traffic(all)

	c := st.Counts
	out.counter(opened, c.SessionsOpened)
	out.tally(ended, c.SessionsEnded)
	out.tally(sessionsRefused, c.SessionsRefused)
	out.counter(streamsOpened, c.StreamsOpened)
	for user, counts := range c.StreamsRefusedByUser {
		out.tally(streamsRefused, counts, user)
	}
	out.tally(tickets, c.Tickets)
	for _, t := range st.Targets {
		out.counter(targetOpened, t.Opened, t.Name)
		out.tally(targetRefused, t.Refused, t.Name)
	}
	out.tally(handshakes, c.HandshakeFailures)
	out.durations("target", c.TargetDials)
	out.durations("backend", c.RouteDials)
	out.gauge(preauth, float64(st.Unauthenticated))
	out.tally(rejected, c.Rejected)
	for _, r := range st.Routes {
		out.gauge(routeNow, float64(r.Connections), r.Route)
		out.counter(routeOpened, r.Opened, r.Route)
		out.tally(routeRefused, r.Refused, r.Route)
		out.counter(routeBytes, r.Received, r.Route, "received")
		out.counter(routeBytes, r.Sent, r.Route, "sent")
	}
}

func (out sink) client(st client.Status) {
	out.flag(linkUp, st.Link.Up)
	var links []metrics.Link
	n := 0
	for _, s := range st.Sessions {
		links = append(links, s.Link)
		n += s.Streams
	}
	out.links(links)
	out.gauge(clientSessions, float64(len(links)))
	out.gauge(clientStreams, float64(n))
	c := st.Counts
	out.traffic(c.Traffic)
	out.counter(linkBytes, c.Received, "received")
	out.counter(linkBytes, c.Sent, "sent")
	out.counter(opened, c.SessionsOpened)
	out.tally(ended, c.SessionsEnded)
	out.tally(handshakes, c.HandshakeFailures)
	out.tally(migrations, c.MigrationRequests)
	out.durations("server", c.Dials)
	for _, f := range st.Forwards {
		out.gauge(forwardNow, float64(f.Connections), f.Listen)
		out.counter(forwardOpened, f.Opened, f.Listen)
		out.tally(forwardRefused, f.Refused, f.Listen)
	}
}
