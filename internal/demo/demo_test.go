package demo

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

// The whole demonstration, with little data.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if err := Run(t.Context(), Options{Out: &out, Logger: log, Bytes: 1 << 20, Once: true}); err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`(?s)✓ up .*1\.0 MiB.*✓ down .*1\.0 MiB.*✓ route .*JSON`).MatchString(out.String()) {
		t.Errorf("it prints\n%s", &out)
	}
	if strings.Contains(out.String(), "Ctrl-C") {
		t.Error("it suggests what to try although it ends")
	}
}

// The JSON backend answers any line, valid or not.
func TestAnswerLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1}`: `"got":{"a":1},"line":3`,
		`5`:       `"got":5`,
		`{`:       `"error":"this is not JSON"`,
		``:        `"error"`,
	} {
		if got := string(answerLine(3, []byte(in))); !strings.Contains(got, want) || !strings.HasSuffix(got, "}\n") {
			t.Errorf("%q: %q", in, got)
		}
	}
}
