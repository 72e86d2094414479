package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"adit/internal/audit"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/systemd"
)

// newLogger logs to w, or to the journal, as configured. The level can be
// changed while it is in use.
func newLogger(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
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
		log.Warn("logging text to standard error instead of the journal", "reason", err)
		return log, level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

// auditIdentifier is what journalctl -t finds the audit records by.
const auditIdentifier = "adit-audit"

// openAudit opens where the audit records go. With dry it only looks whether
// that is possible.
func openAudit(where string, dry bool) (audit.Sink, error) {
	switch where {
	case "-":
		return audit.Lines(os.Stdout), nil
	case "stderr":
		return audit.Lines(os.Stderr), nil
	case "journal":
		h, err := systemd.NewJournalHandler(systemd.JournalOptions{Identifier: auditIdentifier})
		if err != nil {
			return nil, hint.With(err, `name a file, e.g. audit = "/var/log/adit/audit.jsonl", or "stderr"`)
		}
		return journalSink{slog.New(h)}, nil
	}
	var sink audit.Sink
	var err error
	if dry {
		_, err = os.Stat(filepath.Dir(where))
	} else {
		sink, err = audit.OpenFile(where)
	}
	if err != nil {
		return nil, hint.File(err, "name a file in a directory that adit may write to, e.g. /var/log/adit/audit.jsonl")
	}
	return sink, nil
}

// journalSink writes audit records to the journal.
type journalSink struct{ log *slog.Logger }

func (s journalSink) Write(records []audit.Record) error {
	failed := 0
	var fault error
	for i := range records {
		r := slog.NewRecord(records[i].Time, slog.LevelInfo, "audit", 0)
		r.AddAttrs(records[i].Attrs()...)
		if err := s.log.Handler().Handle(context.Background(), r); err != nil {
			failed, fault = failed+1, err
		}
	}
	if failed > 0 {
		return fmt.Errorf("the journal refused %d of %d audit records: %w", failed, len(records), fault)
	}
	return nil
}

func (s journalSink) Close() error { return nil }
