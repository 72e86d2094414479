package statusview

import (
	"bytes"
	"encoding/json"
	"fmt"

	"adit/admin"
	"adit/internal/logline"
)

// writeTables writes a document as tables.
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
	fmt.Fprintf(b, "%s\n", logline.Printable(fmt.Sprintf("adit %s %s, up %s, %s (%s)", head.Role, head.Version, t.age(head.Started), state, s.address)))
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
