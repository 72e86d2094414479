// Package daemon has what the processes of the server and of the client share:
// the logger, listening sockets, the admin endpoint and the watchdog of systemd.
package daemon

import (
	"io"
	"log/slog"

	"adit/internal/config"
	"adit/internal/logline"
	"adit/internal/terminal"
	"adit/systemd"
)

// NewLogger returns a logger that writes to w, or to the journal, as configured.
// The level can be changed while the logger is in use.
func NewLogger(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.Level)
	return slog.New(newHandler(c.Format, level, w)), level
}

func newHandler(format string, level *slog.LevelVar, w io.Writer) slog.Handler {
	asText := slog.NewTextHandler(logline.NewWriter(w), &slog.HandlerOptions{Level: level})
	switch format {
	case "json":
		return slog.NewJSONHandler(logline.NewJSONWriter(w), &slog.HandlerOptions{Level: level, ReplaceAttr: durationWithUnit})
	case "text":
		return asText
	case "journal":
	default: // "auto"
		if terminal.Is(w) {
			return logline.NewTerminalHandler(w, level)
		}
		if !systemd.IsJournal(w) {
			return asText
		}
	}
	h, err := systemd.NewJournalHandler(systemd.JournalOptions{Level: level, Fallback: w})
	if err == nil {
		return h
	}
	if format == "journal" {
		slog.New(asText).Warn("journal unavailable, logging text to standard error", "reason", err)
	}
	return asText
}

// durationWithUnit makes a duration text with its unit, 1.5s, where slog writes
// nanoseconds.
func durationWithUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
