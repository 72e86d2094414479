package statusview

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/testnet"
)

// answering returns a source whose answers come from answer.
func answering(t *testing.T, answer http.HandlerFunc) *Source {
	t.Helper()
	ln := testnet.Listen(t)
	srv := &http.Server{Handler: answer, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return NewSource(config.Address{Network: "tcp", Address: ln.Addr().String()})
}

// No answer, whatever program gives it, makes the terminal do anything but print.
func TestAnswersCannotControlTheTerminal(t *testing.T) {
	const evil = "\x1b[2J\u009b31m\u202e\a\x7f"
	document, err := json.Marshal(map[string]any{
		"role": "server", "version": evil, "ready": false, "reason": evil,
		"sessions":     []map[string]any{{"user": evil, "address": evil}},
		"routes":       []map[string]any{{"route": evil, "backends": []map[string]any{{"name": evil}}, "connections_refused": map[string]int{evil: 1}}},
		"certificates": []map[string]any{{"name": evil}}, "listeners": []map[string]any{{"address": evil}},
		"counts": map[string]any{"users": map[string]any{evil: map[string]int{"sent_bytes": 1}}, "sessions_refused": map[string]int{evil: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	document = bytes.ReplaceAll(document, []byte(`\u007f`), []byte("\x7f"))
	answers := map[string]func(http.ResponseWriter){
		"document": func(w http.ResponseWriter) { w.Write(document) },
		"client": func(w http.ResponseWriter) {
			w.Write(bytes.Replace(document, []byte(`"role":"server"`), []byte(`"role":"client","link":{"error":"\u009b"},"forwards":[{"listen":"\u009b","target":"\u001b"}]`), 1))
		},
		"text":     func(w http.ResponseWriter) { fmt.Fprint(w, evil) },
		"other":    func(w http.ResponseWriter) { fmt.Fprint(w, `{"role":5}`) },
		"redirect": func(w http.ResponseWriter) { w.Header().Set("Location", "/else"); w.WriteHeader(302) },
		"error":    func(w http.ResponseWriter) { w.WriteHeader(500) },
	}
	for name, answer := range answers {
		good := name == "document" || name == "client"
		for _, asJSON := range []bool{false, true} {
			source := answering(t, func(w http.ResponseWriter, _ *http.Request) { answer(w) })
			var out bytes.Buffer
			err := (&View{Out: &out, Sources: []*Source{source}, JSON: asJSON}).Run(t.Context(), 0)
			text := out.String()
			if err != nil {
				text += err.Error() + hint.Of(err)
			}
			for _, r := range strings.ReplaceAll(text, "\n", "") {
				if !unicode.IsPrint(r) {
					t.Errorf("%s, JSON %v: %q reaches the terminal", name, asJSON, r)
					break
				}
			}
			if (err == nil) != good && !(name == "other" && asJSON) {
				t.Errorf("%s, JSON %v: %v, output %q", name, asJSON, err, &out)
			}
			if asJSON && good && !json.Valid(out.Bytes()) {
				t.Errorf("%s: no longer JSON: %s", name, &out)
			}
		}
	}
}

// untilRate calls found when a rate is written.
type untilRate struct {
	bytes.Buffer
	found func()
}

func (u *untilRate) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("MB/s")) {
		u.found()
	}
	return u.Buffer.Write(p)
}

// With Watch the tables have rates, and one failure does not end the view.
func TestWatchShowsRatesAndGoesOn(t *testing.T) {
	asked := make(chan int, 1)
	asked <- 0
	source := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		n := <-asked
		asked <- n + 1
		if n == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(n) * time.Second)
		fmt.Fprintf(w, `{"role":"server","ready":true,"time":%q,"sessions":[{"id":"a","user":"alice","received_bytes":%d,"sent_bytes":0,"opened":%q}]}`,
			at.Format(time.RFC3339), n*2_000_000, at.Format(time.RFC3339))
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &untilRate{found: cancel}
	if err := (&View{Out: out, Sources: []*Source{source}, Watch: true}).Run(ctx, time.Millisecond); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, "502 Bad Gateway") || !strings.Contains(text, "2.0 MB/s") {
		t.Errorf("the failure or the rate is not shown:\n%s", text)
	}
}

func TestFindSources(t *testing.T) {
	dir := t.TempDir()
	patterns := []string{filepath.Join(dir, "one.sock"), filepath.Join(dir, "*", "admin.sock")}
	if _, err := FindSources(patterns); err == nil || !regexp.MustCompile(`there is no .*one\.sock`).MatchString(err.Error()) || hint.Of(err) == "" {
		t.Errorf("without a socket: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "admin.sock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := FindSources(patterns); err != nil || len(found) != 2 {
		t.Errorf("%d sources, %v", len(found), err)
	}
}

// A script learns by --ready whether every process is ready, and why one is not.
func TestReady(t *testing.T) {
	says := func(body string) *Source {
		return answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	}
	ready := says(`{"role":"server","ready":true}`)
	starting := says(`{"role":"client","ready":false,"reason":"connecting\u009b"}`)
	var out bytes.Buffer
	if err := (&View{Out: &out, Sources: []*Source{ready}, Ready: true}).Run(t.Context(), 0); err != nil || !strings.HasSuffix(out.String(), " is ready\n") {
		t.Errorf("%v, %q", err, &out)
	}
	err := (&View{Out: &out, Sources: []*Source{ready, starting}, Ready: true}).Run(t.Context(), 0)
	if err == nil || !strings.Contains(err.Error(), "client at ") || !strings.HasSuffix(err.Error(), " is not ready: connecting?") {
		t.Errorf("%v", err)
	}
}

// The tables have the streams of a session, and why a backend failed last.
func TestStreamsAndFailures(t *testing.T) {
	const stream = `"open_streams":[{"target":"db:5432","opened":"2026-01-02T03:04:05Z","received_bytes":1000,"sent_bytes":2000000}]`
	for document, want := range map[string]string{
		`{"role":"server","time":"2026-01-02T03:05:05Z","sessions":[{"user":"alice",` + stream + `}]}`:                                                                                   `USER +TARGET +AGE +RECEIVED +SENT\nalice +db:5432 +1m 0s +1.0 kB +2.0 MB`,
		`{"role":"client","time":"2026-01-02T03:05:05Z","sessions":[{"server":"wss://gw",` + stream + `}]}`:                                                                              `SERVER +TARGET +AGE +RECEIVED +SENT\nwss://gw +db:5432 +1m 0s +1.0 kB +2.0 MB`,
		`{"role":"server","time":"2026-01-02T03:05:05Z","routes":[{"route":"/x","backends":[{"name":"b:1","last_failure":"connection refused","last_failed":"2026-01-02T03:04:05Z"}]}]}`: `b:1 \(failed 1m 0s ago: connection refused\)`,
	} {
		var out bytes.Buffer
		source := answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, document) })
		if err := (&View{Out: &out, Sources: []*Source{source}}).Run(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}
