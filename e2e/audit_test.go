//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An auditRecord is a record in the audit file as docs/audit.md describes it.
type auditRecord struct {
	Time                                         time.Time
	Kind, Session, User, Client, Target, Address string
	Result, Reason                               string
	ToTarget                                     int64 `json:"bytes_to_target"`
	ToClient                                     int64 `json:"bytes_to_client"`
	Seconds                                      float64
}

func readAudit(t *testing.T, text string) []auditRecord {
	t.Helper()
	var all []auditRecord
	for line := range strings.Lines(text) {
		var r auditRecord
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// Every stream is recorded in the audit file: who reached which target. logrotate may rename the
// file.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	h := machine(t)
	a := newApplication(t, h)
	forbidden := h.listen(t, "127.0.0.1:0").Addr().String()
	file := filepath.Join(workDir(t), "audit.jsonl")
	r := setup{targets: []string{a.addr, forbidden}, allow: []string{a.addr}, server: []string{"--audit", file}}.start(t)
	records := func(path string, n int) []auditRecord {
		t.Helper()
		var all []auditRecord
		eventually(t, patience, fmt.Sprintf("%s has %d records", path, n), func() error {
			if all = readAudit(t, readFile(t, path)); len(all) != n {
				return fmt.Errorf("it has %d", len(all))
			}
			return nil
		})
		return all
	}
	wantEnded := func(got auditRecord) {
		t.Helper()
		if got.Kind != "stream" || got.User != "alice" || !strings.HasPrefix(got.Client, "127.0.0.1:") || got.Target != a.addr || got.Address != a.addr ||
			got.Result != "ended" || got.Reason != "" || got.ToTarget != 1 || got.ToClient != 1 || got.Seconds <= 0 || got.Session == "" ||
			time.Since(got.Time).Abs() > time.Hour {
			t.Errorf("%+v", got)
		}
	}
	finish := func() {
		t.Helper()
		near, far := r.open(t, a)
		near.CloseWrite()
		far.CloseWrite()
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Fatal(err)
		}
	}
	finish()
	wantEnded(records(file, 1)[0])
	r.wantNoConnection(t, forbidden)
	if got := records(file, 2)[1]; got.Result != "forbidden" || got.Target != forbidden || got.Address != "" || got.Reason == "" || got.ToTarget != 0 {
		t.Errorf("%+v", got)
	}
	near, far := r.open(t, a)
	near.SetLinger(0)
	near.Close()
	wantReset(t, "the application", far)
	if got := records(file, 3)[2]; got.Result != "reset" || got.Reason == "" || got.Address != a.addr {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// Rename the file as logrotate does.
	near, far = r.open(t, a)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.server.signal(t, syscall.SIGHUP)
	r.server.wait(t, `msg=reloaded`, 1)
	eventually(t, patience, "the file has been reopened", func() error { _, err := os.Stat(file); return err })
	finish()
	got := records(file, 1)
	wantEnded(got[0])
	// Streams that are open when the server stops are recorded, too.
	r.server.signal(t, syscall.SIGTERM)
	r.server.wait(t, "msg=stopping", 1)
	near.CloseWrite()
	far.CloseWrite()
	<-r.server.done
	r.server.stopped = true
	got = append(got, records(file, 2)[1])
	wantEnded(got[1])
	if got[0].Session != got[1].Session {
		t.Errorf("one session is %s and %s", got[0].Session, got[1].Session)
	}
	if n := len(readAudit(t, readFile(t, file+".1"))); n != 3 {
		t.Errorf("the old file has %d records", n)
	}
}

// When the disk is full, streams continue, and the log says how many records were lost.
func TestAuditLoss(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	a := newApplication(t, h)
	var err error
	h.do(func() {
		err = os.Mkdir("/run/small", 0o755)
		if err == nil {
			err = syscall.Mount("tmpfs", "/run/small", "tmpfs", 0, "size=4k")
		}
		if err == nil {
			err = os.WriteFile("/run/small/audit.jsonl", bytes.Repeat([]byte("{}\n"), 4096/3), 0o600)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r := setup{at: h, targets: []string{a.addr}, server: []string{"--audit", "/run/small/audit.jsonl"}}.start(t)
	for range 3 {
		near, far := r.open(t, a)
		near.CloseWrite()
		far.CloseWrite()
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Fatal(err)
		}
	}
	r.server.wait(t, `level=ERROR msg="audit records lost" records=\d+ error=".*no space left on device"`, 1)
}
