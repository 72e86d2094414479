package testnet

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log is a logger that keeps its records, of all levels, as lines of slog's
// text format.
type Log struct {
	*slog.Logger

	// Guarded by mu.
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed at the next line
}

// NewLog returns an empty log.
func NewLog() *Log {
	l := &Log{changed: make(chan struct{})}
	l.Logger = slog.New(slog.NewTextHandler(lineWriter{l}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return l
}

type lineWriter struct{ log *Log }

// Write adds one line; slog writes each record in one call.
func (w lineWriter) Write(p []byte) (int, error) {
	l := w.log
	l.mu.Lock()
	l.lines = append(l.lines, strings.TrimSuffix(string(p), "\n"))
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	return len(p), nil
}

// Lines returns the lines so far that contain all the parts.
func (l *Log) Lines(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if hasAll(line, parts) {
			found = append(found, line)
		}
	}
	return found
}

func hasAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// Wait waits for n lines that contain all the parts, and returns them. It fails
// the test after 30 s.
func (l *Log) Wait(t testing.TB, n int, parts ...string) []string {
	t.Helper()
	watchdog := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if found := l.Lines(parts...); len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-watchdog:
			t.Fatalf("testnet: fewer than %d log lines with %q in:\n%s", n, parts, strings.Join(l.Lines(), "\n"))
		}
	}
}
