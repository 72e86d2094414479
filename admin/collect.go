package admin

import (
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// registry has all metrics of the process, and no others.
func (a *Admin) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), a)
	return r
}

// metric describes one metric. Its labels have values from fixed sets, or from
// the configuration; what a peer says is never one.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("adit_"+name, help, labels, nil)
}

// Of both ends.
var (
	buildInfo     = metric("build_info", "Which build this is; always 1.", "version", "goversion")
	isReady       = metric("ready", "Whether the process can do its work, as /readyz says.")
	reloads       = metric("config_reloads_total", "Reloads of the configuration, by result; one that failed has changed nothing.", "result")
	reloadedAt    = metric("config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")
	opened        = metric("sessions_opened_total", "Sessions that have begun.")
	ended         = metric("sessions_ended_total", "Sessions that have ended, by reason; lost ones took their streams with them.", "reason")
	disconnected  = metric("sessions_disconnected", "Sessions whose link has no connection at the moment.")
	handshakes    = metric("handshake_failures_total", "Attempts at a session that failed, by the step that did.", "step")
	queued        = metric("link_queued_bytes", "Bytes that wait to be written to a connection, of all sessions.")
	unacked       = metric("link_unacknowledged_bytes", "Bytes that are kept until the other end has them, of all sessions.")
	rtt           = metric("link_rtt_seconds", "Smoothed round-trip time over the sessions there are at the moment.", "sessions")
	resumes       = metric("link_resumes_total", "Times that a session went on with a new connection.")
	replayed      = metric("link_replayed_bytes_total", "Bytes that were sent again when sessions were resumed.")
	dialDurations = metric("dial_duration_seconds", "Time that connecting took, by what was connected to and the result.", "to", "result")
)

// Of the server.
var (
	draining        = metric("draining", "Whether the server is stopping and only lets live streams end.")
	sessions        = metric("sessions", "Sessions at the moment, by user.", "user")
	sessionsRefused = metric("sessions_refused_total", "Sessions that users were refused, by reason.", "reason")
	streams         = metric("streams", "Streams at the moment, by user.", "user")
	streamsOpened   = metric("streams_opened_total", "Streams that were connected to their targets.")
	streamsRefused  = metric("streams_refused_total", "Streams that could not be, by reason.", "reason")
	userBytes       = metric("link_bytes_total", "Bytes of streams and their framing, by user and direction.", "user", "direction")
	preauth         = metric("preauth_connections", "Connections that have not shown credentials; visitors of the site are among them.")
	rejected        = metric("preauth_connections_rejected_total", "Connections that were closed because there were too many without credentials, by the bound.", "bound")
	routeNow        = metric("route_connections", "Connections of a route at the moment.", "route")
	routeOpened     = metric("route_connections_opened_total", "Connections that were made from a route to a backend.", "route")
	routeRefused    = metric("route_connections_refused_total", "Connections that a route refused, by reason.", "route", "reason")
	routeBytes      = metric("route_bytes_total", "Payload of a route, by direction as the server sees it.", "route", "direction")
	certExpiry      = metric("certificate_expiry_timestamp_seconds", "When a certificate of the server expires.", "name")
)

// Of the client.
var (
	linkUp         = metric("link_up", "Whether there is a link to a server.")
	linkBytes      = metric("link_bytes_total", "Bytes of streams and their framing, by direction.", "direction")
	clientSessions = metric("sessions", "Sessions at the moment; more than one while old ones finish their streams.")
	clientStreams  = metric("streams", "Streams at the moment.")
	forwardNow     = metric("forward_connections", "Connections of a forward at the moment.", "forward")
	forwardOpened  = metric("forward_connections_opened_total", "Connections that a forward has accepted.", "forward")
	forwardRefused = metric("forward_connections_refused_total", "Connections that were reset because the tunnel or the server could not carry them, by reason.", "forward", "reason")
)

var bothEnds = []*prometheus.Desc{buildInfo, isReady, reloads, reloadedAt, opened, ended, disconnected, handshakes, queued, unacked, rtt, resumes, replayed, dialDurations}
var serverOnly = []*prometheus.Desc{draining, sessions, sessionsRefused, streams, streamsOpened, streamsRefused, userBytes, preauth, rejected, routeNow, routeOpened, routeRefused, routeBytes, certExpiry}
var clientOnly = []*prometheus.Desc{linkUp, linkBytes, clientSessions, clientStreams, forwardNow, forwardOpened, forwardRefused}

// Describe is of prometheus.Collector.
func (a *Admin) Describe(ch chan<- *prometheus.Desc) {
	own := serverOnly
	if a.cfg.Client != nil {
		own = clientOnly
	}
	for _, d := range slices.Concat(bothEnds, own) {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
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
	for _, c := range a.cfg.Certificates() {
		out.gauge(certExpiry, float64(c.Expires.Unix()), c.Name)
	}
}

// sink is where metrics go.
type sink chan<- prometheus.Metric

func (out sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, valid(labels)...)
}

func (out sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), valid(labels)...)
}

// tally sends one counter for each name, which is the last label.
func (out sink) tally(d *prometheus.Desc, counts map[string]uint64, labels ...string) {
	for name, n := range counts {
		out.counter(d, n, append(slices.Clone(labels), name)...)
	}
}

// durations leaves results out that there have not been: a histogram takes many
// lines.
func (out sink) durations(to string, byResult map[string]metrics.Distribution) {
	for result, d := range byResult {
		if d.Count == 0 && result != "connected" {
			continue
		}
		out <- prometheus.MustNewConstHistogram(dialDurations, d.Count, d.Sum, d.Within, to, result)
	}
}

// valid makes labels what the format can carry: a name in a configuration may be
// anything.
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

// links sends what all sessions together are.
func (out sink) links(links []metrics.Link) {
	var wait, kept, down int
	var times []float64
	for _, l := range links {
		wait += l.Queued
		kept += l.Unacknowledged
		if !l.Connected {
			down++
		}
		if l.RTT > 0 {
			times = append(times, l.RTT)
		}
	}
	out.gauge(queued, float64(wait))
	out.gauge(unacked, float64(kept))
	out.gauge(disconnected, float64(down))
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	for _, q := range []struct {
		of   string
		rank float64
	}{{"min", 0}, {"median", 0.5}, {"p90", 0.9}, {"max", 1}} {
		out.gauge(rtt, times[int(math.Ceil(q.rank*float64(len(times)-1)))], q.of)
	}
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
	out.tally(streamsRefused, c.StreamsRefused)
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
	out.durations("server", c.Dials)
	for _, f := range st.Forwards {
		out.gauge(forwardNow, float64(f.Connections), f.Listen)
		out.counter(forwardOpened, f.Opened, f.Listen)
		out.tally(forwardRefused, f.Refused, f.Listen)
	}
}
