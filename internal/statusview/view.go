package statusview

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"adit/internal/logline"
	"adit/internal/terminal"
)

// View shows the status of its sources. Text from them is made printable: an
// answer cannot send control characters to the terminal.
type View struct {
	Out     io.Writer
	Sources []*Source
	JSON    bool // the documents instead of tables
	Ready   bool // one line for each source, and an error if one is not ready
	Watch   bool // again at every interval, with rates
}

// Run shows the status once, or with Watch every interval until ctx ends. The
// error of a source ends it, but not after the first time: the source may be
// restarting.
func (v *View) Run(ctx context.Context, interval time.Duration) error {
	err := v.show(ctx)
	if err != nil || !v.Watch {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := v.show(ctx); err != nil {
			if _, err := fmt.Fprintln(v.Out, logline.Printable(err.Error())); err != nil {
				return err
			}
		}
	}
}

// clearScreen moves to the top of the terminal and clears it.
const clearScreen = "\x1b[H\x1b[2J"

// show asks all sources once and writes what they answer.
func (v *View) show(ctx context.Context) error {
	var b bytes.Buffer
	var faults []error
	for i, s := range v.Sources {
		body, err := s.fetch(ctx)
		if err == nil && v.Ready {
			err = s.writeReady(&b, body)
		} else if err == nil && v.JSON {
			err = v.writeJSON(&b, body)
		} else if err == nil {
			if i > 0 {
				b.WriteByte('\n')
			}
			err = s.writeTables(&b, body)
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	if v.Watch && !v.JSON {
		if terminal.Is(v.Out) {
			io.WriteString(v.Out, clearScreen)
		} else {
			b.WriteByte('\n')
		}
	}
	if _, err := v.Out.Write(b.Bytes()); err != nil {
		return err
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// writeJSON writes a document, with Watch as one line. Characters that a terminal
// might act on are escaped: JSON requires it of some only.
func (v *View) writeJSON(b *bytes.Buffer, body []byte) error {
	var shaped bytes.Buffer
	shape := func() error { return json.Indent(&shaped, body, "", "  ") }
	if v.Watch {
		shape = func() error { return json.Compact(&shaped, body) }
	}
	if err := shape(); err != nil {
		return err
	}
	b.Write(logline.AppendEscaped(nil, bytes.TrimSpace(shaped.Bytes())))
	b.WriteByte('\n')
	return nil
}
