//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A journal receives log entries in place of journald, in one isolated host.
type journal struct {
	mu      sync.Mutex
	entries []map[string]string
}

func newJournal(t *testing.T, h *host) *journal {
	t.Helper()
	var conn *net.UnixConn
	var err error
	h.do(func() {
		if err = os.MkdirAll("/run/systemd/journal", 0o755); err == nil {
			conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
		}
	})
	if err != nil {
		t.Fatalf("listen as the journal: %v", err)
	}
	conn.SetReadBuffer(1 << 20)
	j := &journal{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			entry, err := journalFields(b[:n])
			if err != nil {
				t.Errorf("the journal cannot read %q: %v", b[:n], err)
			}
			j.mu.Lock()
			j.entries = append(j.entries, entry)
			j.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	recordOutput("the journal in "+t.Name(), func() []string { return j.lines("") })
	return j
}

// journalFields decodes an entry of the journal's native protocol.
func journalFields(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if !found {
			return nil, io.ErrUnexpectedEOF
		}
		name, value, inLine := strings.Cut(string(line), "=")
		// Such a field is eight bytes of length, the value, and a newline.
		if !inLine {
			if len(rest) < 8 || uint64(len(rest)) < 8+binary.LittleEndian.Uint64(rest)+1 {
				return nil, io.ErrUnexpectedEOF
			}
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		fields[name], b = value, rest
	}
	return fields, nil
}

// lines returns the entries of an identifier as journalctl shows them.
func (j *journal) lines(identifier string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for _, e := range j.entries {
		if identifier == "" || e["SYSLOG_IDENTIFIER"] == identifier || identifier == "adit" && e["SYSLOG_IDENTIFIER"] == "" {
			lines = append(lines, time.Now().Format(time.Stamp)+" gw adit[123]: "+strings.ReplaceAll(e["MESSAGE"], "\n", " "))
		}
	}
	return lines
}

// await waits for an entry whose message matches pattern.
func (j *journal) await(t *testing.T, pattern string) map[string]string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found map[string]string
	eventually(t, patience, "the journal has "+pattern, func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, e := range j.entries {
			if re.MatchString(e["MESSAGE"]) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("%d entries, none of them", len(j.entries))
	})
	return found
}

// The journal gets a field for each attribute of the log and of audit records, at both ends.
func TestJournalFields(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	j := newJournal(t, h)
	a := newApplication(t, h)
	pair, alice := newKeyPair(t, "localhost", "127.0.0.1"), newAccount(t, h, "alice")
	users := writeFile(t, workDir(t), "users.toml", alice.users(a.addr))
	env := []string{"ADIT_LOG_FORMAT=journal"}
	server := h.start(t, "adit server", spec{env: env, argv: []string{aditBin, "server", "--listen", "127.0.0.1:4443", "--tls-cert", pair.cert, "--tls-key", pair.key,
		"--tunnel-path", tunnelPath, "--users", users, "--audit", "journal"}})
	cleanStop(t, server)
	j.await(t, "^listening addr=127.0.0.1:4443")
	client := h.start(t, "adit client", spec{env: env, argv: []string{aditBin, "client", "--proxy", "none", "--token-file", alice.tokenFile, "--ca", pair.ca,
		"-L", "127.0.0.1:0:" + a.addr, "wss://127.0.0.1:4443" + tunnelPath}})
	cleanStop(t, client)
	up := j.await(t, "^link up ")
	if up["PRIORITY"] != "6" || up["ADIT_SERVER"] == "" {
		t.Errorf("%v", up)
	}
	opened := j.await(t, "^session opened ")
	r := &rig{host: h, local: map[string]string{a.addr: j.await(t, "^listening forward=")["ADIT_ADDR"]}}
	near, far := r.open(t, a)
	near.CloseWrite()
	far.CloseWrite()
	io.Copy(io.Discard, near)
	got := j.await(t, "^audit ")
	for name, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "adit-audit", "PRIORITY": "6", "ADIT_KIND": "stream", "ADIT_USER": "alice", "ADIT_TARGET": a.addr, "ADIT_ADDRESS": a.addr,
		"ADIT_RESULT": "ended", "ADIT_BYTES_TO_TARGET": "1", "ADIT_BYTES_TO_CLIENT": "1", "ADIT_SESSION": opened["ADIT_SESSION"],
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q, in %v", name, got[name], want, got)
		}
	}
	for name := range got {
		if !slices.Contains([]string{"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}, name) && !strings.HasPrefix(name, "ADIT_") {
			t.Errorf("field %s", name)
		}
	}
}

// Without a journal the log is text, and a line says why.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	s := h.server(t, "--log-format", "journal", "--no-tls", "--listen", "127.0.0.1:0", "--allow-anonymous", "127.0.0.1:1")
	s.wait(t, `level=WARN msg="journal unavailable, logging text to standard error" reason="no systemd journal on this machine"`, 1)
	if out, err := h.try(t, patience, "", aditBin, "server", "--audit", "journal", "--no-tls", "--listen", "127.0.0.1:0", "--allow-anonymous", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "--audit: no systemd journal on this machine") {
		t.Errorf("%s, %v", out, err)
	}
}
