package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
)

// ErrNoJournal means that the journal's socket cannot be reached.
var ErrNoJournal = errors.New("no systemd journal on this machine")

// IsJournal reports whether w is the process's standard error and systemd has
// connected it to the journal.
func IsJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	standardError := false
	if err := raw.Control(func(fd uintptr) { standardError = fd == uintptr(syscall.Stderr) }); err != nil || !standardError {
		return false
	}
	connected, err := journal.StderrIsJournalStream()
	return err == nil && connected
}

// JournalOptions configure NewJournalHandler.
type JournalOptions struct {
	// Level is the lowest level that is logged. Default: slog.LevelInfo.
	Level slog.Leveler
	// Identifier is SYSLOG_IDENTIFIER, which journalctl shows and -t selects.
	// Default: the program's name.
	Identifier string
	// Fallback receives, as lines of text, records that the journal refuses.
	// Default: they are lost.
	Fallback io.Writer
}

// NewJournalHandler returns a handler that sends records to the journal
// (systemd.journal-fields(7)). MESSAGE is the message followed by the
// attributes in slog.TextHandler's format. Each attribute is also a field:
// user becomes ADIT_USER, and user in group g ADIT_G_USER. PRIORITY is 7, 6, 4
// and 3 for debug, info, warn and error. The error is ErrNoJournal.
func NewJournalHandler(o JournalOptions) (slog.Handler, error) {
	if !journal.Enabled() {
		return nil, ErrNoJournal
	}
	return newJournalHandler(o, journal.Send), nil
}

func newJournalHandler(o JournalOptions, send func(string, journal.Priority, map[string]string) error) *journalHandler {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	s := &journalSink{send: send, fallback: o.Fallback, identifier: o.Identifier}
	return &journalHandler{sink: s, text: slog.NewTextHandler(&s.text, &slog.HandlerOptions{Level: o.Level, ReplaceAttr: onlyAttrs})}
}

// onlyAttrs drops the time, level and message, which the journal has fields
// for.
func onlyAttrs(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// journalSink is shared by a handler and those derived from it.
type journalSink struct {
	send       func(message string, p journal.Priority, fields map[string]string) error
	identifier string
	fallback   io.Writer

	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

type journalHandler struct {
	sink   *journalSink
	text   slog.Handler // writes the attributes to sink.text
	prefix string       // the groups' names, each with an underscore
	fields []field      // of WithAttrs
}

// field is a field of a journal entry.
type field struct{ name, value string }

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.text.Enabled(ctx, l)
}

// WithGroup implements slog.Handler.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.text, c.prefix = h.text.WithGroup(name), h.prefix+name+"_"
	return &c
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.text = h.text.WithAttrs(attrs)
	c.fields = slices.Clip(h.fields)
	for _, a := range attrs {
		c.fields = appendFields(c.fields, h.prefix, a)
	}
	return &c
}

// Handle implements slog.Handler. A record that the journal refuses goes to the
// fallback, and the journal's error is returned.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := slices.Clip(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendFields(fields, h.prefix, a)
		return true
	})
	vars := make(map[string]string, len(fields)+1)
	if h.sink.identifier != "" {
		vars["SYSLOG_IDENTIFIER"] = h.sink.identifier
	}
	for _, f := range fields {
		vars[f.name] = f.value
	}
	message := r.Message
	h.sink.mu.Lock()
	h.sink.text.Reset()
	err := h.text.Handle(ctx, r)
	if attrs := strings.TrimSpace(h.sink.text.String()); attrs != "" {
		message += " " + attrs
	}
	h.sink.mu.Unlock()
	if err == nil {
		err = h.sink.send(message, priority(r.Level), vars)
	}
	if err != nil && h.sink.fallback != nil {
		fmt.Fprintf(h.sink.fallback, "level=%s msg=%q journal=%q\n", r.Level, message, err)
	}
	return err
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// appendFields appends the fields of an attribute: one, or those of a group.
func appendFields(fields []field, prefix string, a slog.Attr) []field {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "_"
		}
		for _, inner := range v.Group() {
			fields = appendFields(fields, prefix, inner)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	return append(fields, field{fieldName(prefix + a.Key), v.String()})
}

// maxFieldName is the journal's limit for the name of a field, in bytes.
const maxFieldName = 64

// fieldName converts a key to a name that the journal accepts: capital
// letters, digits and underscores.
func fieldName(key string) string {
	name := "ADIT_" + strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, key)
	return name[:min(len(name), maxFieldName)]
}
