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
	"adit/client"
	"adit/internal/metrics"
	"adit/internal/units"
	"adit/server"
)

// writeTable writes a document for people.
func (s *Source) writeTables(b *bytes.Buffer, body []byte) error {
	var head admin.Head
	if err := json.Unmarshal(body, &head); err != nil {
		return fmt.Errorf("the status of %s: %w", s.address, err)
	}
	t := &table{now: head.Time}
	state := "ready"
	if !head.Ready {
		state = "NOT READY: " + head.Reason
	}
	fmt.Fprintf(b, "%s\n", printable(fmt.Sprintf("adit %s %s, up %s, %s (%s)", head.Role, head.Version, t.age(head.Started), state, s.address)))
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
	facts := [][]string{
		{"listening", strings.Join(listen, ", ")},
		{"certificate", strings.Join(certificates, ", ")},
		{"now", summary(links)},
		{"in all", fmt.Sprintf("%s, %s, %s", plural(d.Counts.SessionsOpened, "session"), plural(d.Counts.StreamsOpened, "stream"), total(traffic...))},
	}
	routeRefusals := make(map[string]uint64)
	for _, r := range d.Routes {
		for reason, n := range r.Refused {
			routeRefusals[reason] += n
		}
	}
	writeRows(b, append(facts, troubleRows([]trouble{
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
			units.Decimal(float64(r.Received)), units.Decimal(float64(r.Sent)), t.rate(r.Received, old.Received), t.rate(r.Sent, old.Sent),
		})
	}
	writeSection(b, rows)
	return nil
}

func (s *Source) writeClient(b *bytes.Buffer, t *table, body []byte) error {
	var d admin.ClientDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return err
	}
	before := make(map[string]client.SessionStatus)
	if s.previousClient != nil {
		t.since = d.Time.Sub(s.previousClient.Time)
		for _, x := range s.previousClient.Sessions {
			before[fmt.Sprint(x.ID)] = x
		}
	}
	s.previousClient = &d

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
		{"now", summary(links)},
		{"in all", fmt.Sprintf("%s, %s", plural(d.Counts.SessionsOpened, "session"), total(d.Counts.Traffic))},
	}, troubleRows([]trouble{
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
