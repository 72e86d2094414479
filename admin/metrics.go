package admin

import "github.com/prometheus/client_golang/prometheus"

// descriptions are those of the metrics that one kind of process has.
type descriptions []*prometheus.Desc

var bothEnds, serverOnly, clientOnly descriptions

// metric adds the description of adit_NAME to ds and returns it. A label's values
// come from a fixed set or from the configuration, never from a peer, which could
// create time series without limit.
func (ds *descriptions) metric(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("adit_"+name, help, labels, nil)
	*ds = append(*ds, d)
	return d
}

// Metrics of server and client. docs/metrics.md explains each.
var (
	buildInfo     = bothEnds.metric("build_info", "Versions of adit and Go; always 1.", "version", "goversion")
	isReady       = bothEnds.metric("ready", "1 if /readyz succeeds.")
	reloads       = bothEnds.metric("config_reloads_total", "Configuration reloads, by result; a failed reload changes nothing.", "result")
	reloadedAt    = bothEnds.metric("config_last_reload_success_timestamp_seconds", "Time at which the current configuration was loaded.")
	opened        = bothEnds.metric("sessions_opened_total", "Sessions opened.")
	ended         = bothEnds.metric("sessions_ended_total", "Sessions ended, by reason; the streams of lost sessions were reset.", "reason")
	disconnected  = bothEnds.metric("sessions_disconnected", "Sessions whose link has no connection now.")
	handshakes    = bothEnds.metric("handshake_failures_total", "Failed attempts to establish a session, by failing step.", "step")
	queued        = bothEnds.metric("link_queued_bytes", "Bytes queued to be written to connections, over all sessions.")
	unacked       = bothEnds.metric("link_unacknowledged_bytes", "Bytes kept until acknowledged, over all sessions.")
	rttMin        = bothEnds.metric("link_rtt_min_seconds", "Smallest smoothed round-trip time of the current sessions.")
	rttMax        = bothEnds.metric("link_rtt_max_seconds", "Largest smoothed round-trip time of the current sessions.")
	resumes       = bothEnds.metric("link_resumes_total", "Times that a session was resumed on a new connection.")
	replayed      = bothEnds.metric("link_replayed_bytes_total", "Bytes retransmitted when sessions were resumed.")
	dialDurations = bothEnds.metric("dial_duration_seconds", "Duration of connection attempts, by kind of destination and result.", "to", "result")
)

// Metrics of the server.
var (
	draining        = serverOnly.metric("draining", "1 while the server stops and waits for streams to end.")
	sessions        = serverOnly.metric("sessions", "Current sessions, by user.", "user")
	sessionsRefused = serverOnly.metric("sessions_refused_total", "Sessions refused to authenticated users, by reason.", "reason")
	streams         = serverOnly.metric("streams", "Current streams, by user.", "user")
	streamsOpened   = serverOnly.metric("streams_opened_total", "Streams connected to their targets.")
	streamsRefused  = serverOnly.metric("streams_refused_total", "Streams not connected to their targets, by user and reason.", "user", "reason")
	userBytes       = serverOnly.metric("link_bytes_total", "Bytes of streams and their framing, by user and direction.", "user", "direction")
	preauth         = serverOnly.metric("preauth_connections", "Connections that have not authenticated, including visitors of the site.")
	rejected        = serverOnly.metric("preauth_connections_rejected_total", "Connections that had not authenticated and were closed in favor of newer ones, by exceeded bound.", "bound")
	routeNow        = serverOnly.metric("route_connections", "Current connections of a route.", "route")
	routeOpened     = serverOnly.metric("route_connections_opened_total", "Connections from a route to a backend.", "route")
	routeRefused    = serverOnly.metric("route_connections_refused_total", "Connections that a route refused, by reason.", "route", "reason")
	routeBytes      = serverOnly.metric("route_bytes_total", "Payload bytes of a route, by direction as the server sees it.", "route", "direction")
	targetOpened    = serverOnly.metric("target_streams_opened_total", "Streams connected to a named target.", "target")
	targetRefused   = serverOnly.metric("target_streams_refused_total", "Streams not connected to a named target, by reason.", "target", "reason")
	tickets         = serverOnly.metric("tickets_total", "Tickets issued, refused, accepted, expired and rejected.", "event")
	auditLost       = serverOnly.metric("audit_records_lost_total", "Audit records that could not be written.")
	certExpiry      = serverOnly.metric("certificate_expiry_timestamp_seconds", "Time at which a certificate of the server expires.", "name")
)

// Metrics of the client.
var (
	linkUp         = clientOnly.metric("link_up", "1 while the link to a server is up.")
	linkBytes      = clientOnly.metric("link_bytes_total", "Bytes of streams and their framing, by direction.", "direction")
	clientSessions = clientOnly.metric("sessions", "Current sessions; more than one while old sessions finish their streams.")
	clientStreams  = clientOnly.metric("streams", "Current streams.")
	migrations     = clientOnly.metric("migration_requests_total", "Requests of servers to migrate to a new connection, by result; one that follows another too soon is deferred.", "result")
	forwardNow     = clientOnly.metric("forward_connections", "Current connections of a forward.", "forward")
	forwardOpened  = clientOnly.metric("forward_connections_opened_total", "Connections that a forward accepted.", "forward")
	forwardRefused = clientOnly.metric("forward_connections_refused_total", "Connections that a forward reset because of the tunnel or the server, by reason.", "forward", "reason")
)
