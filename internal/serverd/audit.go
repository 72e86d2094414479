package serverd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"adit/internal/audit"
	"adit/internal/hint"
	"adit/systemd"
)

// auditLog writes audit records to the destination in force.
type auditLog struct {
	log            *slog.Logger
	stdout, stderr io.Writer
	current        atomic.Pointer[audit.Log] // nil without a destination
	lost           atomic.Uint64             // records since the start
}

// auditIdentifier is the syslog identifier of audit records: journalctl -t adit-audit.
const auditIdentifier = "adit-audit"

// open opens a destination. With dry it only checks
// whether that is possible.
func (a *auditLog) open(where string, dry bool) (audit.Sink, error) {
	switch where {
	case "-":
		return audit.Lines(a.stdout), nil
	case "stderr":
		return audit.Lines(a.stderr), nil
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

// record writes an audit record.
func (a *auditLog) record(r audit.Record) {
	if l := a.current.Load(); l != nil {
		l.Put(r)
	}
}

// start writes audit records to sink from now on; nil ends them.
func (a *auditLog) start(sink audit.Sink) {
	l := a.current.Load()
	switch {
	case sink == nil:
		a.stop()
	case l != nil:
		l.Replace(sink)
	default:
		a.current.Store(audit.New(sink, audit.Options{Report: func(lost int64, err error) {
			a.lost.Add(uint64(lost))
			a.log.Error("audit records lost", "records", lost, "error", err)
		}}))
	}
}

// reopen opens the destination again: log rotation may have moved the file.
func (a *auditLog) reopen(where string) {
	if where == "" {
		return
	}
	sink, err := a.open(where, false)
	if err != nil {
		a.log.Error("audit file not reopened, still writing to the previous file", hint.Attrs(err)...)
		return
	}
	a.start(sink)
}

// auditCloseTimeout bounds the time to write the last audit records.
const auditCloseTimeout = 5 * time.Second

// stop writes the last audit records and closes their destination.
func (a *auditLog) stop() {
	l := a.current.Swap(nil)
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditCloseTimeout)
	defer cancel()
	_ = l.Close(ctx) // Report logs what is lost
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
