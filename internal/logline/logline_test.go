package logline

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Text of an unauthenticated client in a JSON log reaches neither a terminal as a
// control character nor an editor as a bidirectional override.
func TestJSONHasNoControlsOfUnauthenticatedClients(t *testing.T) {
	const evil = "\x1b[2J\u009b31m\u0085\u202e\u2066\a\x7f\u200b\ufeff\U000e0001 ä 漢 \"\\\n"
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(NewJSONWriter(&out), nil)).Warn("authentication failed", "path", evil, evil, "x")
	line, ok := strings.CutSuffix(out.String(), "\n")
	if !ok {
		t.Errorf("no newline: %q", line)
	}
	for _, r := range line {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is in the log", r)
		}
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil || got["path"] != evil || got[evil] != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if !strings.Contains(line, "ä 漢") {
		t.Errorf("printable text is escaped: %s", line)
	}
	if got := AppendEscaped(nil, []byte("a\xffb\u00e4\xc3")); string(got) != `a\ufffdbä\ufffd` {
		t.Errorf("invalid UTF-8: %s", got)
	}
}

// full writes half of what it gets while the disk is full.
type full struct {
	io.Writer
	full bool
}

func (f *full) Write(p []byte) (int, error) {
	if !f.full {
		return f.Writer.Write(p)
	}
	n, _ := f.Writer.Write(p[:len(p)/2])
	return n, errors.New("no space left on device")
}

// A full disk leaves no torn line in a file, whether it is opened for appending or not.
func TestFullDiskLeavesNoTornLine(t *testing.T) {
	for _, flag := range []int{os.O_RDWR, os.O_WRONLY | os.O_APPEND} {
		path := filepath.Join(t.TempDir(), "log")
		f, err := os.OpenFile(path, flag|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		disk := &full{Writer: f}
		w := NewJSONWriter(f)
		w.w = disk
		write := func(line string) error { _, err := w.Write([]byte(line)); return err }
		if err := write("{\"n\":1}\n"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			disk.full = true
			if write("{\"n\":2}\n") == nil || write("{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n") == nil {
				t.Error("no error of a full disk")
			}
			disk.full = false
		}
		if err := write("{\"n\":6}\n"); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		const three = "{\"n\":3}\n"
		if want := "{\"n\":1}\n" + strings.Repeat(three, 3) + "{\"n\":6}\n"; err != nil || string(data) != want {
			t.Errorf("%q, want %q", data, want)
		}
	}
}

// What cannot be cut off, or may be another process's, is followed by a newline.
func TestTornLineThatStays(t *testing.T) {
	var out bytes.Buffer
	disk := &full{Writer: &out, full: true}
	w := NewWriter(disk)
	w.Write([]byte("first line\n"))
	disk.full = false
	w.Write([]byte("second line\n"))
	if got := out.String(); got != "first\nsecond line\n" {
		t.Errorf("%q", got)
	}

	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w = NewWriter(f)
	w.w = &full{Writer: io.MultiWriter(f, other(path)), full: true}
	w.Write([]byte("first line\n"))
	if data, _ := os.ReadFile(path); string(data) != "firstother\n" {
		t.Errorf("%q: a line of another process is cut", data)
	}
}

// other appends a line of another process to a file when it is written to.
type other string

func (path other) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(path), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.WriteString("other\n"); err != nil {
		return 0, err
	}
	return len(p), nil
}
