package logline

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode"
)

// NewTerminalHandler returns a handler for people at a terminal: time of day, level,
// message, error, and the other attributes in slog.TextHandler's format. The
// attribute "hint" is on a line of its own.
//
//	15:04:05 WARN connect failed: dial 192.0.2.1:443: connection refused retry=2s
//	         hint: is the server running?
//
// No character of an attribute acts on the terminal. level may be changed later.
func NewTerminalHandler(w io.Writer, level slog.Leveler) slog.Handler {
	s := &terminalSink{w: w}
	return &terminalHandler{sink: s, text: slog.NewTextHandler(&s.attrs, &slog.HandlerOptions{Level: level, ReplaceAttr: otherAttrs})}
}

// Keys with a place of their own in a line.
const (
	errorKey = "error"
	hintKey  = "hint"
)

// otherAttrs drops the attributes that have a place of their own.
func otherAttrs(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey, errorKey, hintKey:
			return slog.Attr{}
		}
	}
	return a
}

// terminalSink is shared by a handler and those derived from it.
type terminalSink struct {
	w io.Writer

	// Guarded by mu.
	mu    sync.Mutex
	attrs bytes.Buffer
	line  bytes.Buffer
}

type terminalHandler struct {
	sink *terminalSink
	text slog.Handler // writes the other attributes to sink.attrs
	own  []slog.Attr  // those of WithAttrs that may have a place of their own
	deep bool         // WithGroup was called
}

// Enabled implements slog.Handler.
func (h *terminalHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.text.Enabled(ctx, l)
}

// WithGroup implements slog.Handler.
func (h *terminalHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.text, c.deep = h.text.WithGroup(name), h.deep || name != ""
	return &c
}

// WithAttrs implements slog.Handler.
func (h *terminalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.text = h.text.WithAttrs(attrs)
	if !h.deep {
		c.own = append(append([]slog.Attr{}, h.own...), attrs...)
	}
	return &c
}

// Handle implements slog.Handler.
func (h *terminalHandler) Handle(ctx context.Context, r slog.Record) error {
	var fault, hint string
	place := func(a slog.Attr) bool {
		switch a.Key {
		case errorKey:
			fault = a.Value.Resolve().String()
		case hintKey:
			hint = a.Value.Resolve().String()
		}
		return true
	}
	for _, a := range h.own {
		place(a)
	}
	if !h.deep {
		r.Attrs(place)
	}
	s := h.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attrs.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	s.line.Reset()
	s.line.WriteString(r.Time.Format("15:04:05 ") + r.Level.String() + " " + Printable(r.Message))
	if fault != "" {
		s.line.WriteString(": " + Printable(fault))
	}
	if attrs := strings.TrimSpace(s.attrs.String()); attrs != "" {
		s.line.WriteString(" " + attrs)
	}
	if hint != "" {
		s.line.WriteString("\n         hint: " + Printable(hint))
	}
	s.line.WriteByte('\n')
	_, err := s.w.Write(s.line.Bytes())
	return err
}

// Printable replaces the characters that a terminal may act on.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
