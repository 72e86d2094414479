// Package daemon has what the processes of the server and of the client share:
// the logger, listening sockets, the admin endpoint and the watchdog of systemd.
package daemon

import (
	"io"
	"log/slog"

	"adit/internal/config"
	"adit/systemd"
)

// NewLogger returns a logger that writes to w, or to the journal, as configured.
// The level can be changed while the logger is in use.
func NewLogger(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.Level)
	o := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), level
	case "journal":
		h, err := systemd.NewJournalHandler(systemd.JournalOptions{Level: level, Fallback: w})
		if err == nil {
			return slog.New(h), level
		}
		log := slog.New(slog.NewTextHandler(w, o))
		log.Warn("journal unavailable, logging text to standard error", "reason", err)
		return log, level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}
