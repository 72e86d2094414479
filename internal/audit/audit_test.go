package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event before it fails.
const patience = time.Minute

func closed(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

// read returns the records of a file.
func read(t *testing.T, path string) []Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Record
	for s := bufio.NewScanner(f); s.Scan(); {
		var r Record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

func open(t *testing.T, path string) Sink {
	t.Helper()
	s, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A file has mode 0600, is appended to, and is created again after a rotation.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	want := Record{Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), Kind: Stream, Session: "s", User: "alice", Client: "192.0.2.1:5",
		Target: "db:<1>", Address: "10.0.0.1:1", Result: Ended, ToTarget: 1, ToClient: 2, Seconds: 0.5}
	for range 2 {
		l := New(open(t, path), Options{})
		l.Put(want)
		closed(t, l)
	}
	if got := read(t, path); len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("%+v", got)
	}
	if data, _ := os.ReadFile(path); !strings.Contains(string(data), `"target":"db:<1>"`) {
		t.Errorf("%s", data)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}

	l := New(open(t, path), Options{})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Replace(open(t, path))
	l.Replace(open(t, path)) // in quick succession
	for range 600 {          // more than one batch
		l.Put(want)
	}
	closed(t, l)
	// Records put right after Replace may still go to the old file; none is lost.
	if n := len(read(t, path)) + len(read(t, path+".1")) - 2; n != 600 {
		t.Errorf("%d records", n)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none", "x"), os.DevNull} {
		if s, err := OpenFile(path); err == nil {
			s.Close()
			t.Errorf("%s is accepted", path)
		}
	}
}

// gated is a sink whose Write waits for its result on a channel.
type gated struct {
	result chan error
	once   sync.Once
	began  chan struct{} // closed at the first Write

	mu   sync.Mutex
	kept int // guarded by mu
}

func (g *gated) Write(records []Record) error {
	g.once.Do(func() { close(g.began) })
	err := <-g.result
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.kept += len(records)
	}
	return err
}

func (g *gated) Close() error { return nil }

type report struct {
	lost int64
	err  error
}

// A sink that is slow or fails does not block Put: lost records are counted and
// reported, at once and then at the configured interval.
func TestLoss(t *testing.T) {
	g := &gated{result: make(chan error), began: make(chan struct{})}
	reports := make(chan report, 100)
	l := New(g, Options{Queue: 4, Every: time.Hour, Report: func(lost int64, err error) { reports <- report{lost, err} }})
	l.Put(Record{})
	<-g.began
	for range 4 + 3 {
		l.Put(Record{})
	}
	if r := <-reports; r.lost < 1 || r.err != nil {
		t.Errorf("%+v", r)
	} else {
		r.lost -= 3
		g.result <- nil
		full := errors.New("the disk is full")
		g.result <- full // the other four, in one batch
		ended := make(chan struct{})
		go func() { closed(t, l); close(ended) }()
		<-ended
		close(reports)
		for next := range reports {
			r.lost += next.lost
			if next.err != nil {
				r.err = next.err
			}
		}
		if r.lost != 4 || r.err != full || g.kept != 1 {
			t.Errorf("%+v and %d kept, want 4 and 1", r, g.kept)
		}
	}
}

// Close returns although the sink blocks, and counts the records in its Write as lost.
func TestCloseGivesUp(t *testing.T) {
	g := &gated{result: make(chan error), began: make(chan struct{})}
	var lost int64
	l := New(g, Options{Report: func(n int64, _ error) { lost += n }})
	for range 3 {
		l.Put(Record{})
	}
	<-g.began
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if lost != 3 {
		t.Errorf("%d records are lost, want 3", lost)
	}
	close(g.result)
	<-l.written
}

// short writes half of the first Write and then fails.
type short struct {
	bytes.Buffer
	failed bool
}

func (s *short) Write(p []byte) (int, error) {
	if s.failed {
		return s.Buffer.Write(p)
	}
	s.failed = true
	n, _ := s.Buffer.Write(p[:len(p)/2])
	return n, errors.New("the disk is full")
}

// A record after an incomplete line begins a line of its own.
func TestPartialLine(t *testing.T) {
	var w short
	s := Lines(&w)
	if err := s.Write([]Record{{User: "alice"}}); err == nil {
		t.Error("no error")
	}
	if err := s.Write([]Record{{User: "bob"}}); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	var r Record
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &r) != nil || r.User != "bob" {
		t.Errorf("%q", lines)
	}
}

// Text of clients in a record has no character that a terminal or an editor acts on.
func TestRecordsHaveNoControlCharacters(t *testing.T) {
	const evil = "\u009b2J\u202eabc\u2066\x1b\x7f"
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := New(open(t, path), Options{})
	l.Put(Record{User: evil, Target: evil, Reason: evil})
	closed(t, l)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range strings.TrimSuffix(string(data), "\n") {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is in the record", r)
		}
	}
	if got := read(t, path); len(got) != 1 || got[0].User != evil || got[0].Target != evil || got[0].Reason != evil {
		t.Errorf("%+v", got)
	}
}

// A record after a line that an earlier process or the replaced sink left incomplete begins a line of its own, too.
func TestPartialLineInFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	const whole, half = `{"user":"alice"}` + "\n", `{"user":"al`
	for _, test := range []struct{ before, between string }{{"", ""}, {whole, ""}, {whole + half, "\n"}, {half, "\n"}} {
		sink := open(t, path)
		if err := os.WriteFile(path, []byte(test.before), 0o600); err != nil {
			t.Fatal(err)
		}
		l := New(sink, Options{})
		l.Put(Record{User: "bob"})
		closed(t, l)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		record, ok := strings.CutPrefix(string(data), test.before+test.between)
		var r Record
		if !ok || json.Unmarshal([]byte(record), &r) != nil || r.User != "bob" {
			t.Errorf("after %q: %q", test.before, data)
		}
	}
}

// Attrs and JSON have the same names, and trim bounds the texts.
func TestAttrs(t *testing.T) {
	r := Record{Target: strings.Repeat("ä", maxText)}
	r.trim()
	if len(r.Target) > maxText+3 {
		t.Error(len(r.Target))
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "time")
	for _, a := range r.Attrs() {
		if _, ok := fields[a.Key]; !ok {
			t.Errorf("%s is not in JSON", a.Key)
		}
		delete(fields, a.Key)
	}
	if len(fields) > 0 {
		t.Errorf("only in JSON: %v", fields)
	}
}

// docs/audit.md describes every field, and its example is a valid record.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	_, example, _ := strings.Cut(text, "```json\n")
	example, _, _ = strings.Cut(example, "```")
	dec := json.NewDecoder(strings.NewReader(example))
	dec.DisallowUnknownFields()
	var r Record
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("the example: %v", err)
	}
	again, err := json.Marshal(r)
	if err != nil || string(again) != strings.TrimSpace(example) {
		t.Errorf("the example is\n%s\nbut encodes to\n%s", example, again)
	}
	for _, a := range append(r.Attrs(), slog.Time("time", r.Time)) {
		if !strings.Contains(text, "`"+a.Key+"`") {
			t.Errorf("the document does not explain %s", a.Key)
		}
	}
	for _, result := range []string{Ended, Reset} {
		if !strings.Contains(text, "`\""+result+"\"`") {
			t.Errorf("the document does not explain the result %s", result)
		}
	}
}
