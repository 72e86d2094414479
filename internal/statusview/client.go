package statusview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"adit/admin"
	"adit/client"
	"adit/internal/metrics"
)

// writeClient writes the document of a client.
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
		{"total", fmt.Sprintf("%s, %s", plural(d.Counts.SessionsOpened, "session"), total(d.Counts.Traffic))},
	}, troubleRows([]trouble{
		{"sessions ended", only(d.Counts.SessionsEnded, "lost", "protocol", "revoked")},
		{"handshakes failed", d.Counts.HandshakeFailures},
		{"migration requests", only(d.Counts.MigrationRequests, "deferred")},
	})...))

	rows := [][]string{{"SERVER", "ADDRESS", "STREAMS", "RECEIVED", "SENT", "IN", "OUT", "RTT", "RESUMES", "AGE"}}
	for _, x := range d.Sessions {
		rows = append(rows, append([]string{x.Server, x.Address}, t.link(x.Link, before[fmt.Sprint(x.ID)].Link, x.Opened)...))
	}
	writeSection(b, rows)

	var streams []ownedStream
	for _, x := range d.Sessions {
		for _, st := range x.OpenStreams {
			streams = append(streams, ownedStream{x.Server, st})
		}
	}
	writeSection(b, t.streams("SERVER", streams))

	rows = [][]string{{"FORWARD", "TARGET", "CONNECTIONS", "OPENED", "REFUSED"}}
	for _, f := range d.Forwards {
		rows = append(rows, []string{f.Listen, f.Target, fmt.Sprint(f.Connections), fmt.Sprint(f.Opened), strings.Join(nonZero(f.Refused), ", ")})
	}
	writeSection(b, rows)
	return nil
}
