package systemd

import (
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

func TestJournalHandler(t *testing.T) {
	var message string
	var priority journal.Priority
	var fields map[string]string
	var fault error
	var fallback strings.Builder
	level := new(slog.LevelVar)
	h := newJournalHandler(JournalOptions{Level: level, Identifier: "adit-test", Fallback: &fallback},
		func(m string, p journal.Priority, f map[string]string) error {
			message, priority, fields = m, p, f
			return fault
		})
	log := slog.New(h)
	for _, test := range []struct {
		name    string
		log     func()
		message string
		level   journal.Priority
		fields  map[string]string
	}{
		{"plain", func() { log.Info("link up") }, "link up", journal.PriInfo, map[string]string{}},
		{"attributes", func() { log.Warn("authentication failed", "addr", "[::1]:5", "reason", "a b", "max-streams", 7) },
			`authentication failed addr=[::1]:5 reason="a b" max-streams=7`, journal.PriWarning,
			map[string]string{"ADIT_ADDR": "[::1]:5", "ADIT_REASON": "a b", "ADIT_MAX_STREAMS": "7"}},
		{"with", func() { log.With("user", "alice").Error("x", "error", errors.New("y"), "after", time.Second) },
			"x user=alice error=y after=1s", journal.PriErr, map[string]string{"ADIT_USER": "alice", "ADIT_ERROR": "y", "ADIT_AFTER": "1s"}},
		{"groups", func() { log.WithGroup("g").With("a", 1).Info("x", slog.Group("h", "b", 2), slog.Group("", "c", 3)) },
			"x g.a=1 g.h.b=2 g.c=3", journal.PriInfo, map[string]string{"ADIT_G_A": "1", "ADIT_G_H_B": "2", "ADIT_G_C": "3"}},
		{"own names", func() { log.Info("x", "msg", "y") }, "x", journal.PriInfo, map[string]string{"ADIT_MSG": "y"}},
		{"odd names", func() { log.Info("x", "ä=\n", "y", strings.Repeat("n", 100), "z") }, "", journal.PriInfo,
			map[string]string{"ADIT____": "y", "ADIT_" + strings.Repeat("N", 59): "z"}},
		{"line ends", func() { log.Info("x", "path", "/a\nPRIORITY=0") }, `x path="/a\nPRIORITY=0"`, journal.PriInfo,
			map[string]string{"ADIT_PATH": "/a\nPRIORITY=0"}}, // the protocol sends such a value with its length
	} {
		message, fields = "", nil
		test.log()
		test.fields["SYSLOG_IDENTIFIER"] = "adit-test"
		if test.message != "" && message != test.message || priority != test.level || !maps.Equal(fields, test.fields) {
			t.Errorf("%s: %q, %d, %v", test.name, message, priority, fields)
		}
	}
	message = ""
	log.Debug("x")
	if message != "" {
		t.Error("below the level")
	}
	level.Set(slog.LevelDebug)
	log.Debug("x")
	if message != "x" || priority != journal.PriDebug {
		t.Errorf("%q, %d", message, priority)
	}
	if fallback.Len() > 0 {
		t.Error(fallback.String())
	}
	fault = errors.New("no room")
	log.Info("lost", "user", "alice")
	if got := fallback.String(); got != "level=INFO msg=\"lost user=alice\" journal=\"no room\"\n" {
		t.Error(got)
	}
}
