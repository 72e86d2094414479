package logline

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"time"
)

// A line on a terminal is short, and its hint is on a line of its own.
func TestTerminalLineIsShort(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := slog.New(NewTerminalHandler(&out, level))
	for _, test := range []struct {
		log  func()
		want string
	}{
		{func() { log.Info("link up", "server", "wss://gw/tunnel", "rtt", 1500*time.Microsecond) }, `INFO link up server=wss://gw/tunnel rtt=1.5ms`},
		{func() {
			log.Warn("connect failed", "error", errors.New("dial gw:443: refused"), "retry", 2*time.Second, "hint", "is it running?")
		},
			`WARN connect failed: dial gw:443: refused retry=2s\n {9}hint: is it running\?`},
		{func() { log.With("user", "alice", "error", "x").WithGroup("g").Error("m", "error", "y", "hint", "z") }, `ERROR m: x user=alice g\.error=y g\.hint=z`},
		{func() { log.Warn("m", "error", "\u009b1m\n\u202e", "hint", "\x1b[2J", "path", "\u009b") }, `WARN m: \?1m\?\? path="\\u009b"\n {9}hint: \?\[2J`},
		{func() { log.Debug("hidden") }, ""},
	} {
		out.Reset()
		test.log()
		want := `^\d\d:\d\d:\d\d ` + test.want + `\n$`
		if test.want == "" {
			want = "^$"
		}
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%q, want %s", out.String(), want)
		}
	}
	level.Set(slog.LevelDebug)
	if log.Debug("shown"); out.Len() == 0 {
		t.Error("the level cannot be changed")
	}
}
