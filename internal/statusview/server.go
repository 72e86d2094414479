package statusview

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"adit/admin"
	"adit/internal/metrics"
	"adit/internal/units"
	"adit/server"
)

// writeServer writes the document of a server.
func (s *Source) writeServer(b *bytes.Buffer, t *table, body []byte) error {
	var d admin.ServerDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return err
	}
	before := make(map[string]server.SessionStatus)
	routes := make(map[string]server.RouteStatus)
	if s.previousServer != nil {
		t.since = d.Time.Sub(s.previousServer.Time)
		for _, x := range s.previousServer.Sessions {
			before[x.ID] = x
		}
		for _, r := range s.previousServer.Routes {
			routes[r.Route] = r
		}
	}
	s.previousServer = &d

	writeRows(b, append(serverFacts(&d), serverTrouble(&d)...))
	writeSection(b, t.serverSessions(d.Sessions, before))
	var streams []ownedStream
	for _, x := range d.Sessions {
		for _, st := range x.OpenStreams {
			streams = append(streams, ownedStream{x.User, st})
		}
	}
	writeSection(b, t.streams("USER", streams))
	writeSection(b, t.serverRoutes(d.Routes, routes))
	return nil
}

// serverFacts returns what there is one of: addresses, certificates, totals.
func serverFacts(d *admin.ServerDocument) [][]string {
	var listen, certificates []string
	for _, l := range d.Listeners {
		listen = append(listen, l.Address+map[bool]string{true: " with TLS", false: " without TLS"}[l.TLS])
	}
	for _, c := range d.Certificates {
		left := "expires in " + units.Age(c.Expires.Sub(d.Time))
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
	return [][]string{
		{"listening", strings.Join(listen, ", ")},
		{"certificate", strings.Join(certificates, ", ")},
		{"now", summary(links)},
		{"total", fmt.Sprintf("%s, %s, %s", plural(d.Counts.SessionsOpened, "session"), plural(d.Counts.StreamsOpened, "stream"), total(traffic...))},
	}
}

// serverTrouble returns the failures that have occurred.
func serverTrouble(d *admin.ServerDocument) [][]string {
	routeRefusals := make(map[string]uint64)
	for _, r := range d.Routes {
		for reason, n := range r.Refused {
			routeRefusals[reason] += n
		}
	}
	return troubleRows([]trouble{
		{"sessions ended", only(d.Counts.SessionsEnded, "lost", "protocol")},
		{"sessions refused", d.Counts.SessionsRefused},
		{"handshakes failed", d.Counts.HandshakeFailures},
		{"streams refused", d.Counts.StreamsRefused},
		{"connections rejected", d.Counts.Rejected},
		{"routes refused", routeRefusals},
	})
}

// serverSessions returns the table of sessions. before are those of the previous
// document, by ID.
func (t *table) serverSessions(sessions []server.SessionStatus, before map[string]server.SessionStatus) [][]string {
	rows := [][]string{{"USER", "FROM", "STREAMS", "RECEIVED", "SENT", "IN", "OUT", "RTT", "RESUMES", "AGE"}}
	slices.SortStableFunc(sessions, func(x, y server.SessionStatus) int { return cmp.Compare(x.User, y.User) })
	for _, x := range sessions {
		rows = append(rows, append([]string{x.User, x.Address}, t.link(x.Link, before[x.ID].Link, x.Opened)...))
	}
	return rows
}

// serverRoutes returns the table of routes. before are those of the previous
// document, by name.
func (t *table) serverRoutes(routes []server.RouteStatus, before map[string]server.RouteStatus) [][]string {
	rows := [][]string{{"ROUTE", "BACKENDS", "CONNECTIONS", "OPENED", "REFUSED", "RECEIVED", "SENT", "IN", "OUT"}}
	for _, r := range routes {
		var backends []string
		for _, k := range r.Backends {
			name := k.Name
			switch {
			case k.LastFailed != nil:
				name += fmt.Sprintf(" (failed %s ago: %s)", t.age(*k.LastFailed), k.LastFailure)
			case k.Failed:
				name += " (failed)"
			}
			backends = append(backends, name)
		}
		old := before[r.Route]
		rows = append(rows, []string{
			r.Route, strings.Join(backends, ", "), fmt.Sprint(r.Connections), fmt.Sprint(r.Opened), fmt.Sprint(sumOf(r.Refused)),
			units.Decimal(float64(r.Received)), units.Decimal(float64(r.Sent)), t.rate(r.Received, old.Received), t.rate(r.Sent, old.Sent),
		})
	}
	return rows
}
