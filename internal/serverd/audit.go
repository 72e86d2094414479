package serverd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"adit/internal/audit"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/systemd"
)

// readAudit opens the destination of the audit records, if there is one.
func (p *plan) readAudit(stdout, stderr io.Writer, dry bool, faults *config.Faults) {
	if p.cfg.Audit == "" {
		return
	}
	var err error
	if p.audit, err = openAudit(p.cfg.Audit, stdout, stderr, dry); err != nil {
		faults.Add(p.cfg.Origin("audit"), err)
	}
}

// auditIdentifier is the syslog identifier of audit records: journalctl -t adit-audit.
const auditIdentifier = "adit-audit"

// openAudit opens the destination of the audit records. With dry it only checks
// whether that is possible.
func openAudit(where string, stdout, stderr io.Writer, dry bool) (audit.Sink, error) {
	switch where {
	case "-":
		return audit.Lines(stdout), nil
	case "stderr":
		return audit.Lines(stderr), nil
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
func (d *Daemon) record(r audit.Record) {
	if l := d.audit.Load(); l != nil {
		l.Put(r)
	}
}

// startAudit writes audit records to sink from now on; nil ends them.
func (d *Daemon) startAudit(sink audit.Sink) {
	l := d.audit.Load()
	switch {
	case sink == nil:
		d.stopAudit()
	case l != nil:
		l.Replace(sink)
	default:
		d.audit.Store(audit.New(sink, audit.Options{Report: func(lost int64, err error) {
			d.log.Error("audit records lost", "records", lost, "error", err)
		}}))
	}
}

// reopenAudit opens the audit file again: log rotation may have moved it.
func (d *Daemon) reopenAudit() {
	if d.plan.cfg.Audit == "" {
		return
	}
	sink, err := openAudit(d.plan.cfg.Audit, d.Stdout, d.Stderr, false)
	if err != nil {
		d.log.Error("audit file not reopened, still writing to the previous file", hint.Attrs(err)...)
		return
	}
	d.startAudit(sink)
}

// auditCloseTimeout bounds the time to write the last audit records.
const auditCloseTimeout = 5 * time.Second

// stopAudit writes the last audit records and closes their destination.
func (d *Daemon) stopAudit() {
	l := d.audit.Swap(nil)
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
